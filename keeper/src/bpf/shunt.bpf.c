// SPDX-License-Identifier: Apache-2.0
//
// Which packets are Shunt's. Runs on each received packet of an interface: what Shunt owns goes to the AF_XDP socket of
// the queue it came in on, everything else to the kernel, so that SSH on the same interface keeps working. Where no
// socket stands in `ports` for the queue, the kernel gets the packet too.
//
// Writer of the maps: the keeper. Keys are 16-byte addresses, IPv4 as ::ffff:a.b.c.d, in network order.

#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

struct address {
	__u8 bytes[16];
};

struct backend {
	struct address address;
	__be16 port;
	__u8 protocol;
	__u8 unused; // zero
};

// Interface queue -> socket. The keeper sets the size to the interface's queues.
struct {
	__uint(type, BPF_MAP_TYPE_XSKMAP);
	__uint(max_entries, 64);
	__type(key, __u32);
	__type(value, __u32);
} ports SEC(".maps");

// Addresses of services and of the box's own programs: all that is sent to one is Shunt's.
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1024);
	__type(key, struct address);
	__type(value, __u8);
} services SEC(".maps");

// Backends whose replies, and ICMP errors about what they were sent, pass through Shunt.
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 4096);
	__type(key, struct backend);
	__type(value, __u8);
} backends SEC(".maps");

// The box's own addresses: replies to its health checks come from a backend's port, but are the kernel's.
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1024);
	__type(key, struct address);
	__type(value, __u8);
} local SEC(".maps");

#define ARP_REPLY 2
#define ICMP_UNREACHABLE 3
#define ICMP_TIME_EXCEEDED 11
#define ICMP_PARAMETER_PROBLEM 12
#define FRAGMENT 0x3fff // more fragments, or not the first
#define FRAGMENT_OFFSET 0x1fff
#define QUOTE_MIN 8 // bytes after the quoted IP header (RFC 792)

// RFC 826 over Ethernet. <linux/if_arp.h> needs the host's C library, which has no bpf variant.
struct arp_ipv4 {
	__be16 hardware_type;
	__be16 protocol_type;
	__u8 hardware_length;
	__u8 protocol_length;
	__be16 operation;
	__u8 sender_mac[ETH_ALEN];
	__u8 sender_address[4];
	__u8 target_mac[ETH_ALEN];
	__u8 target_address[4];
} __attribute__((packed));

// RFC 792. <linux/icmp.h> needs the C library, too.
struct icmp_error {
	__u8 type;
	__u8 code;
	__be16 checksum;
	__u8 rest[4];
};

static __always_inline struct address mapped(const void *ipv4)
{
	struct address address = { .bytes = { [10] = 0xff, [11] = 0xff } };

	__builtin_memcpy(&address.bytes[12], ipv4, 4);
	return address;
}

static __always_inline int redirect(struct xdp_md *context)
{
	return bpf_redirect_map(&ports, context->rx_queue_index, XDP_PASS);
}

static __always_inline int choose_arp(struct xdp_md *context, void *start, void *end)
{
	struct arp_ipv4 *arp = start;

	if ((void *)(arp + 1) > end)
		return XDP_PASS;
	if (arp->protocol_type != bpf_htons(ETH_P_IP) || arp->protocol_length != 4 ||
	    arp->hardware_length != ETH_ALEN)
		return XDP_PASS;
	// Answers are the kernel's: it asks for all neighbours, and may have asked from one of these addresses.
	if (arp->operation == bpf_htons(ARP_REPLY))
		return XDP_PASS;

	struct address target = mapped(arp->target_address);

	return bpf_map_lookup_elem(&services, &target) ? redirect(context) : XDP_PASS;
}

// An error about a packet that was sent to a backend's port, from the backend or a router on the way there, is Shunt's, as
// the backend's reply would be. What the box's own packets caused is the kernel's.
static __always_inline int choose_icmp(struct xdp_md *context, struct iphdr *ip, void *end)
{
	struct icmp_error *icmp = (void *)ip + ip->ihl * 4;
	struct iphdr *quoted = (void *)(icmp + 1);

	if ((void *)(quoted + 1) > end || ip->frag_off & bpf_htons(FRAGMENT))
		return XDP_PASS;
	if (icmp->type != ICMP_UNREACHABLE && icmp->type != ICMP_TIME_EXCEEDED &&
	    icmp->type != ICMP_PARAMETER_PROBLEM)
		return XDP_PASS;
	if (quoted->version != 4 || quoted->ihl < 5 || quoted->saddr != ip->daddr ||
	    quoted->frag_off & bpf_htons(FRAGMENT_OFFSET))
		return XDP_PASS;
	if (quoted->protocol != IPPROTO_TCP && quoted->protocol != IPPROTO_UDP)
		return XDP_PASS;

	__be16 *ports = (void *)quoted + quoted->ihl * 4;

	if ((void *)ports + QUOTE_MIN > end)
		return XDP_PASS;

	struct backend receiver = {
		.address = mapped(&quoted->daddr),
		.port = ports[1],
		.protocol = quoted->protocol,
	};
	struct address sender = mapped(&ip->daddr);

	if (!bpf_map_lookup_elem(&backends, &receiver))
		return XDP_PASS;
	return bpf_map_lookup_elem(&local, &sender) ? XDP_PASS : redirect(context);
}

static __always_inline int choose_ipv4(struct xdp_md *context, void *start, void *end)
{
	struct iphdr *ip = start;

	if ((void *)(ip + 1) > end || ip->version != 4 || ip->ihl < 5)
		return XDP_PASS;

	struct address destination = mapped(&ip->daddr);

	// Malformed ones too: the packet filter counts them.
	if (bpf_map_lookup_elem(&services, &destination))
		return redirect(context);
	if (ip->protocol == IPPROTO_ICMP)
		return choose_icmp(context, ip, end);
	if (ip->protocol != IPPROTO_TCP && ip->protocol != IPPROTO_UDP)
		return XDP_PASS;
	// Only a first fragment has ports.
	if (ip->frag_off & bpf_htons(FRAGMENT_OFFSET))
		return XDP_PASS;

	__be16 *source_port = start + ip->ihl * 4;

	if ((void *)(source_port + 1) > end)
		return XDP_PASS;

	struct backend source = {
		.address = mapped(&ip->saddr),
		.port = *source_port,
		.protocol = ip->protocol,
	};

	if (!bpf_map_lookup_elem(&backends, &source))
		return XDP_PASS;
	return bpf_map_lookup_elem(&local, &destination) ? XDP_PASS : redirect(context);
}

SEC("xdp")
int shunt(struct xdp_md *context)
{
	void *start = (void *)(long)context->data;
	void *end = (void *)(long)context->data_end;
	struct ethhdr *ethernet = start;

	if ((void *)(ethernet + 1) > end)
		return XDP_PASS;
	// VLAN tags show as another type: tagged traffic is the kernel's.
	switch (bpf_ntohs(ethernet->h_proto)) {
	case ETH_P_ARP:
		return choose_arp(context, ethernet + 1, end);
	case ETH_P_IP:
		return choose_ipv4(context, ethernet + 1, end);
	default:
		return XDP_PASS;
	}
}

// No helper used here is reserved for GPL programs.
char _license[] SEC("license") = "Apache-2.0";
