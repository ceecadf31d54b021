# shellcheck shell=bash
# Shunt's agents on the simulated pool: one for each back-end, reporting what its metrics say each REPORT_MS.
# Execution time is that of a worker: the wait before it shows in the requests in flight already.

readonly FEEDBACK_ADDRESS=198.18.1.1:7946 REPORT_MS=50

make_agent_keys() {
    local address
    mkdir -p "$RUN/agents"
    for address in "${SERVER_ADDRESSES[@]}"; do
        (umask 077 && od -An -v -tx1 -N32 /dev/urandom | tr -d ' \n' >"$RUN/agents/$(server_name "$address").key")
    done
}

# Control's half, with its defaults.
write_feedback() {
    local address name
    printf '\n[feedback]\nlisten = "%s"\n' "$FEEDBACK_ADDRESS"
    for address in "${SERVER_ADDRESSES[@]}"; do
        name=$(server_name "$address")
        printf '\n[[agent]]\nname = "%s"\nkey_file = "%s"\nbackends = ["%s"]\n' "$name" "$RUN/agents/$name.key" "$name"
    done
}

# write_agent_configuration NAME ADDRESS
write_agent_configuration() {
    cat <<CONFIGURATION
name = "$1"
control = "$FEEDBACK_ADDRESS"
key_file = "$RUN/agents/$1.key"
period_ms = $REPORT_MS

[[backend]]
name = "$1"
port = $SERVICE_PORT

[backend.prometheus]
address = "$2:$METRICS_PORT"
in_flight = "load_in_flight"
requests = "load_requests_total"
execution = "load_execution_seconds"
CONFIGURATION
}

start_agents() {
    local address name
    for address in "${SERVER_ADDRESSES[@]}"; do
        name=$(server_name "$address")
        write_agent_configuration "$name" "$address" >"$RUN/agents/$name.toml"
        start_process "agent.$name" ip netns exec "$SERVERS_NS" taskset -c "$LOAD_CPU" \
            "$SHUNT_BIN/shunt-agent" --config "$RUN/agents/$name.toml"
    done
}

stop_agents() {
    local address
    for address in "${SERVER_ADDRESSES[@]}"; do
        stop_process "agent.$(server_name "$address")"
    done
}
