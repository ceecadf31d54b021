#!/usr/bin/python3
"""Writes the vectors beside it: frames, and what becomes of them, made by Scapy. tests/vectors.rs compares.

    packet/tests/vectors/make.py            writes the files
    packet/tests/vectors/make.py --check    fails if a file isn't what it would write

Needs Debian's python3-scapy (2.5.0 made the committed files); the test needs none. One file a protocol, one case a
paragraph: `case NAME`, then `KEY VALUE` lines. `frame` is what comes, `fields` what the parser reads in it; the other keys
are operations of the packet crate and the whole frame that each makes of `frame`. Nothing of Shunt's is used here.
"""

import pathlib
import sys

from scapy.config import conf
from scapy.layers.inet import ICMP, IP, TCP, UDP, IPOption_NOP, IPOption_RR, IPOption_Router_Alert
from scapy.layers.l2 import ARP, Dot1Q, Ether
from scapy.packet import Padding, Raw

LOCAL, PEER = "02:00:00:00:00:01", "02:00:00:00:00:09"
NEXT_HOP, OUT = "02:00:00:00:b0:00", "02:00:00:00:00:02"
CLIENT, SERVICE, BACKEND, ROUTER = "198.18.0.2", "198.18.0.100", "198.18.1.11", "203.0.113.1"
DEFAULT_TTL = 64
ERROR_MAX = 576


def link(**fields):
    return Ether(src=PEER, dst=LOCAL, **fields)


def rebuilt(packet):
    """The packet with every length and checksum that Scapy can compute left to it; an absent UDP checksum stays absent."""
    packet = packet.copy()
    for layer in (IP, TCP, UDP, ICMP):
        if layer in packet:
            part = packet[layer]
            if layer is UDP and part.chksum == 0:
                continue
            part.chksum = None
    return packet


def parsed(frame):
    return Ether(bytes(frame))


def fields(frame):
    """What a parser says about an IPv4 frame: ends, protocol, ttl, offsets, length of the payload and TCP's flags."""
    packet = parsed(frame)
    ip = packet[IP]
    network = len(bytes(frame)) - len(bytes(ip))
    transport = network + ip.ihl * 4
    end = network + ip.len
    header, ports, flags = {
        6: lambda: (ip[TCP].dataofs * 4, (ip[TCP].sport, ip[TCP].dport), int(ip[TCP].flags)),
        17: lambda: (8, (ip[UDP].sport, ip[UDP].dport), 0),
        1: lambda: (8, (0, 0), 0),
    }[ip.proto]()
    return (
        f"{ip.src}:{ports[0]} {ip.dst}:{ports[1]} protocol {ip.proto} ttl {ip.ttl} network {network} "
        f"transport {transport} end {end} payload {end - transport - header} flags {flags:#04x}"
    )


def translated(frame, source=None, destination=None):
    """The frame on its way: one end replaced, the time to live decremented, the next hop's Ethernet addresses."""
    packet = parsed(frame)
    packet.src, packet.dst = OUT, NEXT_HOP
    ip = packet[IP]
    ip.ttl -= 1
    for end, (address, port) in (("src", source or (None, None)), ("dst", destination or (None, None))):
        if address:
            setattr(ip, end, address)
            for layer in (TCP, UDP):
                if layer in ip and not isinstance(ip[layer].underlayer, ICMP):
                    setattr(ip[layer], {"src": "sport", "dst": "dport"}[end], port)
    return rebuilt(packet)


def turned(frame):
    """The headers of an answer up to IP's, which has no options."""
    packet = parsed(frame)
    ip = packet[IP]
    header = Ether(src=packet.dst, dst=packet.src)
    if Dot1Q in packet:
        tag = packet[Dot1Q]
        header = header / Dot1Q(vlan=tag.vlan, prio=tag.prio)
    return header / IP(src=ip.dst, dst=ip.src, ttl=DEFAULT_TTL, id=0, flags="DF")


def reset(frame):
    """RFC 9293 3.10.7.1, connection does not exist."""
    ip = parsed(frame)[IP]
    tcp = ip[TCP]
    if "A" in tcp.flags:
        numbers = dict(seq=tcp.ack, ack=0, flags="R")
    else:
        length = ip.len - ip.ihl * 4 - tcp.dataofs * 4 + ("S" in tcp.flags) + ("F" in tcp.flags)
        numbers = dict(seq=0, ack=(tcp.seq + length) % 2**32, flags="RA")
    return turned(frame) / TCP(sport=tcp.dport, dport=tcp.sport, window=0, **numbers)


def time_exceeded(frame):
    """RFC 792, no longer than its cause and than RFC 1812 4.3.2.3 allows."""
    ip = parsed(frame)[IP]
    cause = bytes(ip)[: ip.len]
    return turned(frame) / ICMP(type=11, code=0) / Raw(cause[: min(len(cause), ERROR_MAX) - 28])


def echo_reply(frame):
    packet = parsed(frame)
    packet.src, packet.dst = packet.dst, packet.src
    ip = packet[IP]
    ip.src, ip.dst, ip.ttl = ip.dst, ip.src, DEFAULT_TTL
    ip[ICMP].type = 0
    packet = rebuilt(packet)
    if Padding in packet:
        packet[Padding].underlayer.remove_payload()
    return packet


def error(sender, receiver, kind, code, cause, quoted, options=(), unused=0):
    """An ICMP error about a packet, quoting so many bytes of it. Scapy would add bytes of its own to typed fields."""
    quote = bytes(cause)[:quoted]
    icmp = ICMP(type=kind, code=code)
    if kind == 3:
        icmp.nexthopmtu = unused
    return link() / IP(src=sender, dst=receiver, id=77, options=list(options)) / icmp / Raw(quote)


def endpoint(address, port):
    return f"{address}:{port}"


class Case:
    def __init__(self, name, frame):
        self.lines = [("case", name), ("frame", bytes(frame).hex())]
        self.frame = frame

    def add(self, key, value):
        self.lines.append((key, value if isinstance(value, str) else bytes(value).hex()))
        return self

    def ip(self):
        return self.add("fields", fields(self.frame))

    def nat(self, backend=(BACKEND, 8080), service=(SERVICE, 80)):
        self.ip()
        self.add(f"nat_destination {endpoint(*backend)}", translated(self.frame, destination=backend))
        return self.add(f"nat_source {endpoint(*service)}", translated(self.frame, source=service))


def ethernet():
    datagram = IP(src=CLIENT, dst=SERVICE, id=3) / UDP(sport=40000, dport=53) / Raw(b"hi")
    padded = link() / datagram / Padding(b"\xa5" * 16)
    yield Case("a datagram padded to the least length", padded).ip()
    tagged = link(type=0x8100) / Dot1Q(vlan=0, prio=5) / datagram
    yield Case("a priority tag", tagged).nat()
    doubled = link(type=0x88A8) / Dot1Q(vlan=0, prio=7, type=0x8100) / Dot1Q(vlan=0, prio=1) / datagram
    yield Case("two priority tags", doubled).nat()


def arp():
    def request(sender_address, padding=b""):
        asked = ARP(op=1, hwsrc=PEER, psrc=sender_address, hwdst="00:00:00:00:00:00", pdst=SERVICE)
        return Ether(src=PEER, dst="ff:ff:ff:ff:ff:ff") / asked / Padding(padding)

    def reply(sender_address):
        answer = ARP(op=2, hwsrc=LOCAL, psrc=SERVICE, hwdst=PEER, pdst=sender_address)
        return Ether(src=LOCAL, dst=PEER) / answer

    yield Case("a request, padded", request(CLIENT, bytes(18))).add("arp_reply", reply(CLIENT))
    yield Case("a probe (RFC 5227 2.1)", request("0.0.0.0")).add("arp_reply", reply("0.0.0.0"))


def ipv4():
    def segment(**fields):
        return link() / IP(src=CLIENT, dst=SERVICE, **fields) / TCP(sport=40000, dport=80, flags="S", seq=1000)

    plain = segment(id=0x1234, tos=0xB8, flags="DF", ttl=57)
    yield Case("without options, with a traffic class", plain).nat().add("reset", reset(plain))
    record = segment(options=[IPOption_RR(length=7, pointer=4, routers=["0.0.0.0"]), IPOption_NOP()], ttl=2) / Raw(b"enough to be quoted")
    yield Case("with record route", record).nat().add("reset", reset(record)).add("time_exceeded", time_exceeded(record))
    alert = segment(options=[IPOption_Router_Alert()], flags="evil")
    yield Case("with router alert and the reserved flag", alert).nat().add("reset", reset(alert))


def tcp():
    def segment(flags, options=(), payload=b"", **fields):
        header = TCP(sport=40000, dport=80, flags=flags, options=list(options), window=64240, **fields)
        return link() / IP(src=CLIENT, dst=SERVICE, id=1, flags="DF") / header / Raw(payload)

    opening = [("MSS", 1460), ("SAckOK", b""), ("Timestamp", (1234567, 0)), ("NOP", None), ("WScale", 7)]
    for name, frame in (
        ("a SYN with Linux's options", segment("S", opening, seq=2**32 - 1)),
        ("a SYN with data (RFC 7413)", segment("S", [("MSS", 1460)], b"early", seq=2**32 - 3)),
        ("data with a timestamp", segment("PA", [("NOP", None), ("NOP", None), ("Timestamp", (5, 6))], b"GET /\r\n", seq=9, ack=77)),
        ("a FIN of odd length", segment("FA", (), b"bye", seq=10, ack=2**32 - 1)),
        ("a FIN without ACK", segment("F", (), b"last", seq=11)),
        ("congestion flags and urgent data", segment("PAUEC", (), b"x", seq=1, ack=2, urgptr=1)),
        ("selective acknowledgement", segment("A", [("NOP", None), ("NOP", None), ("SAck", (10, 20))], seq=1, ack=2)),
    ):
        case = Case(name, frame).nat().add("reset", reset(frame))
        if parsed(frame)[IP].len >= 28 + 28:
            case.add("time_exceeded", time_exceeded(frame))
        yield case


def udp():
    def datagram(payload, **fields):
        return link() / IP(src=CLIENT, dst=SERVICE, id=2, ttl=9) / UDP(sport=40000, dport=53, **fields) / Raw(payload)

    backend, service = (BACKEND, 5353), (SERVICE, 53)
    yield Case("empty (row 101)", datagram(b"")).nat(backend, service)
    yield Case("of odd length", datagram(b"odd")).nat(backend, service)
    yield Case("without a checksum (row 98)", datagram(b"question", chksum=0)).nat(backend, service)
    # The port that makes the translated checksum 0, which is sent as 0xFFFF.
    frame = datagram(b"\0\0")
    total = 5353 + parsed(translated(frame, destination=(BACKEND, 5353)))[UDP].chksum
    to = total % 65536 + total // 65536
    assert parsed(translated(frame, destination=(BACKEND, to)))[UDP].chksum == 0xFFFF
    yield Case("a checksum that becomes 0 (row 100)", frame).nat((BACKEND, to), service)
    long = datagram(bytes(range(256)) * 4)
    yield Case("long enough to be quoted in part", long).nat(backend, service).add("time_exceeded", time_exceeded(long))


def icmp():
    echo = link() / IP(src=CLIENT, dst=SERVICE, id=4, ttl=3) / ICMP(type=8, id=7, seq=1) / Raw(b"ping!")
    yield Case("an echo request (row 76)", echo).ip().add("echo_reply", echo_reply(echo))
    router_alert = link() / IP(src=CLIENT, dst=SERVICE, options=[IPOption_Router_Alert()]) / ICMP(type=8, id=7, seq=2)
    padded = router_alert / Raw(b"pong") / Padding(b"\xa5" * 4)
    yield Case("an echo request with options, padded", padded).ip().add("echo_reply", echo_reply(padded))

    # What a client was sent: by the service as the client knows it, by the backend as it knows itself.
    def to_client(source, transport, **fields):
        return IP(src=source, dst=CLIENT, id=9, ttl=61, **fields) / transport / Raw(b"payload")

    # What a backend was sent.
    def to_backend(destination, transport):
        return IP(src=CLIENT, dst=destination, id=9, ttl=61) / transport / Raw(b"payload")

    options = [("NOP", None), ("NOP", None), ("Timestamp", (5, 6))]
    segment = lambda port: TCP(sport=port, dport=40000, flags="PA", seq=1, ack=2, options=options)
    datagram = lambda port: UDP(sport=port, dport=40000)
    bare = lambda port: UDP(sport=port, dport=40000, chksum=0)
    for name, transport, ports, ip, quoted in (
        ("too big, TCP quoted whole (row 72)", segment, (80, 8080), {}, 576),
        ("too big, eight bytes of TCP quoted", segment, (80, 8080), {}, 28),
        ("too big, TCP quoted beyond its checksum", segment, (80, 8080), {}, 39),
        ("too big, TCP after IP options", segment, (80, 8080), dict(options=[IPOption_NOP()] * 4), 48),
        ("too big, UDP", datagram, (53, 5353), {}, 576),
        ("too big, UDP without a checksum", bare, (53, 5353), {}, 576),
    ):
        service, backend = (SERVICE, ports[0]), (BACKEND, ports[1])
        frame = error(ROUTER, SERVICE, 3, 4, to_client(SERVICE, transport(ports[0]), **ip), quoted, unused=1400)
        back = error(ROUTER, BACKEND, 3, 4, to_client(BACKEND, transport(ports[1]), **ip), quoted, unused=1400)
        yield Case(name, frame).ip().add(f"quote_source {endpoint(*backend)}", back)
    outgoing = lambda port: TCP(sport=40000, dport=port, flags="S", seq=1)
    for name, kind, code in (("unreachable, port", 3, 3), ("time exceeded", 11, 0), ("parameter problem", 12, 0)):
        frame = error(ROUTER, CLIENT, kind, code, to_backend(BACKEND, outgoing(8080)), 576, [IPOption_NOP()] * 4)
        shown = error(ROUTER, CLIENT, kind, code, to_backend(SERVICE, outgoing(80)), 576, [IPOption_NOP()] * 4)
        yield Case(f"{name}, from behind", frame).ip().add(f"quote_destination {endpoint(SERVICE, 80)}", shown)


def text(maker):
    cases = ("\n".join(f"{key} {value}" for key, value in case.lines) for case in maker())
    return f"# Made by make.py with Scapy {conf.version}.\n\n" + "\n\n".join(cases) + "\n"


def main():
    here = pathlib.Path(__file__).resolve().parent
    stale = []
    for maker in (ethernet, arp, ipv4, tcp, udp, icmp):
        path, made = here / f"{maker.__name__}.txt", text(maker)
        if sys.argv[1:] == ["--check"]:
            if not path.exists() or path.read_text() != made:
                stale.append(path.name)
        else:
            path.write_text(made)
    if stale:
        sys.exit(f"make.py: {', '.join(stale)}: not what make.py writes; run it without --check")


if __name__ == "__main__":
    main()
