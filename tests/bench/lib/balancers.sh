# shellcheck shell=bash
# The devices of the balancing benchmark, by the way in which they choose a back-end: shunt-ALGORITHM, haproxy-ALGORITHM, nftables.
# The configuration of shunt-latency says how many workers a back-end has; shunt-latency-learnt has to learn it.
# All know the same back-ends with equal weights. Shunt goes on running from one of its algorithms to the next, by a reload.
# Its agents run with it, for "static" too, which doesn't listen to them.

readonly SHUNT_ALGORITHMS=(static even lightest least-connections latency latency-learnt)

check_balancer() {
    case $1 in
        shunt-*)
            require_word --devices "${1#shunt-}" "${SHUNT_ALGORITHMS[@]}" && check_device shunt
            [[ -x $SHUNT_BIN/shunt-agent ]] || fail "$SHUNT_BIN/shunt-agent is missing; run 'cargo build --release' in $ROOT"
            ;;
        haproxy-*) require_word --devices "${1#haproxy-}" roundrobin leastconn random && check_device haproxy ;;
        nftables) check_device nftables ;;
        *) fail "no device is called '$1'; see --help" ;;
    esac
}

# devices.sh reads it.
# shellcheck disable=SC2034
SHUNT_AGENTS=yes
# What runs now: shunt, haproxy, nftables, or nothing.
RUNNING=''

# select_balancer NAME: stops another one, starts this one or makes it so.
select_balancer() {
    local kind=${1%%-*} algorithm=${1#*-}
    if [[ $RUNNING == shunt && $kind == shunt ]]; then
        reload_shunt "$algorithm"
        return
    fi
    stop_balancer
    case $1 in
        haproxy-random) HAPROXY_BALANCE='random(2)' start_device haproxy ;;
        shunt-*) choose_algorithm "$algorithm" && start_device shunt ;;
        *) HAPROXY_BALANCE=$algorithm start_device "$kind" ;;
    esac
    RUNNING=$kind
    [[ $kind != shunt ]] || start_agents
}

stop_balancer() {
    [[ $RUNNING != shunt ]] || stop_agents
    [[ -z $RUNNING ]] || stop_device "$RUNNING"
    RUNNING=''
}

# choose_algorithm ALGORITHM: for write_shunt_configuration.
# shellcheck disable=SC2034
choose_algorithm() {
    SHUNT_ALGORITHM=${1%-learnt} SHUNT_WORKERS=''
    [[ $1 != latency ]] || SHUNT_WORKERS=$POOL_WORKERS
}

# reload_shunt ALGORITHM
reload_shunt() {
    choose_algorithm "$1"
    write_shunt_configuration >"$RUN/shunt.toml"
    "$SHUNT_BIN/shunt" --instance bench reload >/dev/null
}
