# shellcheck shell=bash
# The devices under test: start_NAME and stop_NAME each, in the same place of the chain, on DEVICE_CPU.
# A benchmark says what is served: SERVICE_PROTOCOL and SERVICE_PORT; and where it
# isn't the usual way of choosing a back-end, SHUNT_ALGORITHM, with SHUNT_WORKERS where the configuration says them, or HAPROXY_BALANCE;
# with SHUNT_AGENTS, control takes the reports of agents.sh. Shunt is "shunt-wait", whose switcher sleeps until packets come, with
# the kernel's receive threads on its CPU, "shunt-spin", whose switcher polls, or "shunt": as SHUNT_IDLE says, else "spin".

# check_device NAME: says at the start what is missing, instead of in the middle of a round.
check_device() {
    case $1 in
        straight) ;;
        shunt | shunt-spin | shunt-wait) find_binaries ;;
        testpmd) require_commands dpdk-testpmd ;;
        nftables) require_commands nft ;;
        haproxy) require_commands haproxy ;;
        *) fail "no device is called '$1'" ;;
    esac
}

# The kernel routes to one server, nothing re-written: what the network itself carries.
start_straight() {
    steer_device
    # With early demultiplexing, forwarding drops a packet that matches a TIME-WAIT socket which HAProxy left in this namespace.
    within "$DEVICE_NS" sysctl -q -w net.ipv4.ip_forward=1 net.ipv4.ip_early_demux=0
    ip -n "$SERVERS_NS" address add "$SERVICE_ADDRESS/32" dev lo
    ip -n "$DEVICE_NS" route add "$SERVICE_ADDRESS" via 198.18.1.11
}

stop_straight() {
    ip -n "$DEVICE_NS" route delete "$SERVICE_ADDRESS"
    ip -n "$SERVERS_NS" address delete "$SERVICE_ADDRESS/32" dev lo
    within "$DEVICE_NS" sysctl -q -w net.ipv4.ip_forward=0 net.ipv4.ip_early_demux=1
}

# server_name ADDRESS: b1 for 198.18.1.11.
server_name() {
    printf 'b%s' "$((${1##*.} - 10))"
}

# start_shunt_device
start_shunt_device() {
    write_shunt_configuration >"$RUN/shunt.toml"
    start_shunt "$DEVICE_NS"
    await_heartbeat
    pin_attendants
}

write_shunt_configuration() {
    local address
    printf 'instance = "bench"\n'
    write_switchers "${SHUNT_IDLE:-spin}" "$DEVICE_CPU"
    write_interfaces "${SHUNT_PORT:-af_xdp}"
    write_service bench "$SERVICE_PROTOCOL" "$SERVICE_PORT" nat
    [[ ${SHUNT_ALGORITHM:-static} == static ]] || printf 'algorithm = "%s"\n' "$SHUNT_ALGORITHM"
    write_no_health
    for address in "${SERVER_ADDRESSES[@]}"; do
        write_backend "$(server_name "$address")" "$address:$SERVICE_PORT" "${SHUNT_WORKERS:-}"
    done
    [[ -z ${SHUNT_AGENTS:-} ]] || write_feedback
}

stop_shunt_device() {
    stop_process shunt 20
}

await_heartbeat() {
    local deadline=$((SECONDS + READY_SECONDS))
    until [[ -s /run/shunt/bench/pids/switcher.0 ]] && "$SHUNT_BIN/shunt" --instance bench status >/dev/null 2>&1; do
        check_progress "$deadline" "'shunt --instance bench status' does not answer"
    done
    # Addresses reach the XDP maps, and neighbours the ARP cache, within moments of the start.
    sleep 1
}

# All but the switcher, which has pinned itself, make room on its CPU.
pin_attendants() {
    local file
    for file in /run/shunt/bench/pids/*; do
        [[ $file == */switcher.* ]] || taskset -acp "$LOAD_CPU" "$(<"$file")" >/dev/null
    done
}

# DPDK's own forwarder over AF_XDP: takes frames, swaps their Ethernet addresses, sends them out of the other port. No tables.
start_testpmd() {
    start_process testpmd ip netns exec "$DEVICE_NS" \
        stdbuf -oL dpdk-testpmd -l "$LOAD_CPU,$DEVICE_CPU" --main-lcore "$LOAD_CPU" --no-huge -m 512 --no-pci --file-prefix=bench \
        --vdev net_af_xdp0,iface=client0 --vdev net_af_xdp1,iface=back0 -- \
        --forward-mode="${TESTPMD_MODE:-macswap}" --auto-start --stats-period 3600 --total-num-mbufs=32768
    local deadline=$((SECONDS + 20))
    # It says that it forwards once its queues are bound.
    until grep -q 'forwards packets on' "$RUN/log/testpmd" 2>/dev/null; do
        running_process testpmd >/dev/null || fail "dpdk-testpmd ended at its start"
        ((SECONDS < deadline)) || fail "dpdk-testpmd does not forward after 20 s"
        sleep 0.1
    done
}

stop_testpmd() {
    stop_process testpmd 10
    rm -f "$RUN/log/testpmd"
}

# Destination NAT, a back-end for each new connection at random.
start_nftables() {
    local match="ip daddr $SERVICE_ADDRESS $SERVICE_PROTOCOL dport $SERVICE_PORT"
    steer_device
    within "$DEVICE_NS" sysctl -q -w net.ipv4.ip_forward=1
    within "$DEVICE_NS" nft -f - <<RULES
table ip bench {
    chain prerouting {
        type nat hook prerouting priority dstnat
        $match dnat to numgen random mod ${#SERVER_ADDRESSES[@]} map { $(numbered_servers) }
    }
}
RULES
    # Room for every connection of a run; the table of the whole machine.
    sysctl -q -w net.netfilter.nf_conntrack_max=2000000 2>/dev/null || true
}

# "0 : 198.18.1.11, 1 : ..."
numbered_servers() {
    local number
    for number in "${!SERVER_ADDRESSES[@]}"; do
        ((number == 0)) || printf ', '
        printf '%s : %s' "$number" "${SERVER_ADDRESSES[number]}"
    done
}

stop_nftables() {
    within "$DEVICE_NS" nft delete table ip bench
    within "$DEVICE_NS" sysctl -q -w net.ipv4.ip_forward=0
}

# Layer 4 proxy, one thread.
start_haproxy() {
    local address
    steer_device
    ip -n "$DEVICE_NS" address add "$SERVICE_ADDRESS/32" dev lo
    cat >"$RUN/haproxy.cfg" <<CONFIGURATION
global
    nbthread 1
    maxconn 5000
defaults
    mode tcp
    timeout connect 5s
    timeout client 1h
    timeout server 1h
frontend bench
    bind $SERVICE_ADDRESS:$SERVICE_PORT backlog 8192
    default_backend servers
backend servers
    balance ${HAPROXY_BALANCE:-roundrobin}
$(for address in "${SERVER_ADDRESSES[@]}"; do
        printf '    server %s %s:%s\n' "$(server_name "$address")" "$address" "$SERVICE_PORT"
    done)
CONFIGURATION
    start_process haproxy ip netns exec "$DEVICE_NS" taskset -c "$DEVICE_CPU" haproxy -db -f "$RUN/haproxy.cfg"
}

stop_haproxy() {
    stop_process haproxy
    ip -n "$DEVICE_NS" address delete "$SERVICE_ADDRESS/32" dev lo
}

start_device() {
    case $1 in
        shunt) start_shunt_device ;;
        shunt-spin | shunt-wait) SHUNT_IDLE=${1#shunt-} start_shunt_device ;;
        *) "start_$1" ;;
    esac
}

stop_device() {
    if [[ $1 == shunt* ]]; then stop_shunt_device; else "stop_$1"; fi
}
