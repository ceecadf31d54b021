# shellcheck shell=bash
# Namespaces and links of a laboratory. All traffic stays on veth pairs inside namespaces created here: 198.18.0.0/15 is
# reserved for benchmarks (RFC 2544, RFC 6890).

add_namespace() {
    local namespace=$1
    ip netns add "$namespace"
    ip -n "$namespace" link set lo up
    # No reverse-path filtering: a veth has no spoofed neighbours, and replies of direct server return arrive on a different
    # link.
    within "$namespace" sysctl -q -w net.ipv4.conf.all.rp_filter=0 net.ipv4.conf.default.rp_filter=0
}

within() {
    local namespace=$1
    shift
    ip netns exec "$namespace" "$@"
}

# add_link NAMESPACE INTERFACE PEER_NAMESPACE PEER_INTERFACE QUEUES
# Both ends get the same number of queues: native XDP is refused where the peer has more transmit queues
# than this end has receive queues.
add_link() {
    local namespace=$1 interface=$2 peer_namespace=$3 peer=$4 queues=$5
    ip -n "$namespace" link add "$interface" mtu 1500 numrxqueues "$queues" numtxqueues "$queues" \
        type veth peer name "$peer" netns "$peer_namespace" mtu 1500 numrxqueues "$queues" numtxqueues "$queues"
    settle_link "$namespace" "$interface"
    settle_link "$peer_namespace" "$peer"
}

# Transmit checksum offload leaves checksums unfilled on a veth, and segmentation offload makes frames larger
# than any buffer: AF_XDP sees both as they are.
settle_link() {
    local namespace=$1 interface=$2
    within "$namespace" ethtool -K "$interface" tx off rx off tso off gso off gro off >/dev/null
    # Router solicitations and duplicate address detection are noise in a counted experiment.
    within "$namespace" sysctl -q -w "net.ipv6.conf.$interface.disable_ipv6=1" 2>/dev/null || true
    ip -n "$namespace" link set "$interface" up
}

add_address() {
    ip -n "$1" address add "$3" dev "$2"
}

mac_of() {
    ip -n "$1" -json link show dev "$2" | jq -r '.[0].address'
}

# Adds an address without announcing it, for direct server return: only the balancer answers ARP for it.
add_silent_address() {
    local namespace=$1 address=$2
    within "$namespace" sysctl -q -w net.ipv4.conf.all.arp_ignore=1 net.ipv4.conf.all.arp_announce=2
    add_address "$namespace" lo "$address/32"
}

# Deletes the namespaces named PREFIX-..., given by their last parts.
delete_namespaces() {
    local namespace
    for namespace in "$@"; do
        if [[ -e /run/netns/$namespace ]]; then
            ip netns delete "$namespace"
        fi
    done
}
