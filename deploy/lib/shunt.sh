# shellcheck shell=bash
# Shunt in a laboratory: its configuration, its start, and its readiness.
# The configuration is "$RUN/shunt.toml"; the instance has the laboratory's name.

readonly SERVICE_ADDRESS=198.18.0.100
# The box's own programs, reached through Shunt.
readonly HOST_ADDRESS=198.18.0.101
readonly HOST_DEVICE=shunt0
readonly READY_SECONDS=30

# write_interfaces PORT [LINE]: the two interfaces of every laboratory.
write_interfaces() {
    local port=$1
    printf '\n[[interface]]\nname = "client0"\nside = "client"\nport = "%s"\n' "$port"
    printf '\n[[interface]]\nname = "back0"\nside = "backend"\nport = "%s"\n' "$port"
}

# The pseudo-interface.
write_host() {
    printf '\n[host]\ndevice = "%s"\naddresses = ["%s"]\nroutes = ["198.18.0.0/24"]\n' "$HOST_DEVICE" "$HOST_ADDRESS"
}

# write_host_service NAME PROTOCOL PORT: at the service address, served by the box's own programs.
write_host_service() {
    printf '\n[[service]]\nname = "%s"\nprotocol = "%s"\naddress = "%s:%s"\ntarget = "host"\n' \
        "$1" "$2" "$SERVICE_ADDRESS" "$3"
}

# write_switchers IDLE CPU...
write_switchers() {
    local idle=$1
    shift
    local IFS=,
    printf '\n[switchers]\ncpus = [%s]\nidle = "%s"\n' "$*" "$idle"
}

# write_service NAME PROTOCOL PORT MODE
write_service() {
    printf '\n[[service]]\nname = "%s"\nprotocol = "%s"\naddress = "%s:%s"\nmode = "%s"\n' \
        "$1" "$2" "$SERVICE_ADDRESS" "$3" "$4"
}

# write_health KIND [LINE]: a dead back-end is detected within fall x interval, about a second.
write_health() {
    printf '\n[service.health]\nkind = "%s"\n%s\ninterval_ms = 500\ntimeout_ms = 300\nrise = 2\nfall = 2\n' \
        "$1" "${2:-}"
}

write_no_health() {
    printf '\n[service.health]\nkind = "none"\n'
}

# write_backend NAME ADDRESS:PORT [WORKERS]
write_backend() {
    printf '\n[[service.backend]]\nname = "%s"\naddress = "%s"\n' "$1" "$2"
    [[ -z ${3:-} ]] || printf 'workers = %s\n' "$3"
}

# start_shunt NAMESPACE
start_shunt() {
    "$SHUNT_BIN/shunt" check "$RUN/shunt.toml" >/dev/null
    start_process shunt ip netns exec "$1" "$ROOT/deploy/shunt-supervisor" "$RUN/shunt.toml"
}

# await_shunt INSTANCE CLIENT_NAMESPACE NAME...
# Ready as seen from outside: the operator's status answers, and a client has got an answer from every back-end, so that
# their neighbours are resolved too.
await_shunt() {
    local instance=$1 client=$2 deadline=$((SECONDS + READY_SECONDS)) answer
    shift 2
    local -A missing=()
    for answer in "$@"; do missing[$answer]=1; done
    # 1 is degraded: a back-end that is down on purpose does not count.
    until "$SHUNT_BIN/shunt" --instance "$instance" status >/dev/null 2>&1 || (($? == 1)); do
        check_progress "$deadline" "'shunt --instance $instance status' says that it does not serve"
    done
    while ((${#missing[@]} > 0)); do
        check_progress "$deadline" "no answer through $SERVICE_ADDRESS from: ${!missing[*]}"
        answer=$(within "$client" curl -s --max-time 1 "http://$SERVICE_ADDRESS/") || continue
        [[ -z $answer ]] || unset "missing[$answer]"
    done
}

# Fails if Shunt has ended or the DEADLINE has passed.
check_progress() {
    local deadline=$1 what=$2
    running_process shunt >/dev/null || fail "Shunt ended at its start"
    ((SECONDS < deadline)) || fail "not ready within $READY_SECONDS s: $what"
    sleep 0.1
}

# Removes what a killed instance left behind. Only when no process of it runs.
remove_instance() {
    local instance=$1
    rm -rf "/run/shunt/$instance"
    rm -f "/dev/shm/shunt.$instance."*
}
