# shellcheck shell=bash
# The benchmarks' network: client ---- client0 DEVICE back0 ---- servers, two veth pairs and no bridge.
#
# Placement: the device is the only one on DEVICE_CPU, everything else is on LOAD_CPU. Received packets are worked on where their owner
# is: receive packet steering sends what arrives at client and servers to LOAD_CPU, and what arrives at the device's kernel to
# DEVICE_CPU. "shunt-wait" has the kernel's receive threads there too. One exception, the same for every AF_XDP device that has
# neither those nor busy polling, which a veth offers up to Linux 6.12 ("shunt-spin", testpmd): the XDP program, and the copy into
# the frame pool, run in the sender's context, so that this part of the receive work is done by LOAD_CPU.

readonly CLIENT_NS=bench-client DEVICE_NS=bench-device SERVERS_NS=bench-servers
RUN=/run/shunt-lab/bench
# A benchmark may name more of them before it sources this file.
[[ -v SERVER_ADDRESSES ]] || SERVER_ADDRESSES=(198.18.1.11 198.18.1.12)

choose_cpus() {
    local cpus
    mapfile -t cpus < <(allowed_cpus)
    ((${#cpus[@]} >= 2)) || fail "a benchmark needs two CPUs: one for the device, one for everything else"
    LOAD_CPU=${cpus[0]}
    DEVICE_CPU=${cpus[-1]}
}

on_load_cpu() {
    taskset -c "$LOAD_CPU" "$@"
}

build_chain() {
    local namespace address
    mkdir -p /run/shunt-lab
    mkdir "$RUN" 2>/dev/null || fail "$RUN exists: another benchmark runs, or one was killed; then: rm -r $RUN; ip netns delete $CLIENT_NS (and $DEVICE_NS, $SERVERS_NS)"
    on_exit take_chain_down
    add_namespace "$CLIENT_NS"
    add_namespace "$DEVICE_NS"
    add_namespace "$SERVERS_NS"
    add_link "$DEVICE_NS" client0 "$CLIENT_NS" eth0 1
    add_link "$DEVICE_NS" back0 "$SERVERS_NS" eth0 1
    add_address "$DEVICE_NS" client0 198.18.0.1/24
    add_address "$CLIENT_NS" eth0 198.18.0.2/24
    add_address "$DEVICE_NS" back0 198.18.1.1/24
    for address in "${SERVER_ADDRESSES[@]}"; do
        add_address "$SERVERS_NS" eth0 "$address/24"
    done
    ip -n "$SERVERS_NS" route add default via 198.18.1.1
    fix_neighbours
    for namespace in "$CLIENT_NS" "$DEVICE_NS" "$SERVERS_NS"; do
        # Connections are opened faster than their ports would come back.
        within "$namespace" sysctl -q -w net.ipv4.ip_local_port_range="1024 65535" net.ipv4.tcp_tw_reuse=1 \
            net.ipv4.tcp_max_tw_buckets=1000000 net.core.somaxconn=8192
    done
}

# No resolution happens in the middle of a measurement, and whoever owns the service address needs not answer ARP.
fix_neighbours() {
    local device_mac server_mac address
    device_mac=$(mac_of "$DEVICE_NS" client0)
    server_mac=$(mac_of "$SERVERS_NS" eth0)
    for address in 198.18.0.1 "$SERVICE_ADDRESS"; do
        ip -n "$CLIENT_NS" neighbour replace "$address" lladdr "$device_mac" dev eth0 nud permanent
    done
    for address in "${SERVER_ADDRESSES[@]}"; do
        ip -n "$DEVICE_NS" neighbour replace "$address" lladdr "$server_mac" dev back0 nud permanent
    done
    ip -n "$DEVICE_NS" neighbour replace 198.18.0.2 lladdr "$(mac_of "$CLIENT_NS" eth0)" dev client0 nud permanent
    ip -n "$SERVERS_NS" neighbour replace 198.18.1.1 lladdr "$(mac_of "$DEVICE_NS" back0)" dev eth0 nud permanent
}

# steer NAMESPACE INTERFACE CPU: receive packet steering of its only queue.
steer() {
    local file=/sys/class/net/$2/queues/rx-0/rps_cpus
    # shellcheck disable=SC2016 # expanded by the inner shell
    within "$1" sh -c 'echo "$1" >"$2"' sh "$(printf '%x' "$((1 << $3))")" "$file"
}

steer_device() {
    steer "$DEVICE_NS" client0 "$DEVICE_CPU"
    steer "$DEVICE_NS" back0 "$DEVICE_CPU"
}

steer_ends() {
    steer "$CLIENT_NS" eth0 "$LOAD_CPU"
    steer "$SERVERS_NS" eth0 "$LOAD_CPU"
}

# take_chain_down STATUS: of a benchmark that failed, rather than being interrupted, the logs are of interest.
take_chain_down() {
    local status=$1 name
    ((status == 0 || status > 128)) || show_logs
    for name in $(process_names); do
        stop_process "$name" 10
    done
    delete_namespaces "$CLIENT_NS" "$DEVICE_NS" "$SERVERS_NS"
    remove_instance bench
    rm -rf "$RUN"
}
