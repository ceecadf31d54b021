#!/usr/bin/env python3
"""A back-end of the laboratory: echoes TCP streams and UDP datagrams.

A datagram "whoami" is answered with the server's name. One UDP socket for each address, because an answer must
come from the address that was asked (direct server return: the service address).
"""

import argparse
import asyncio


class StreamEcho(asyncio.Protocol):
    """Echoes a connection for as long as it lives; stops reading while the client doesn't read."""

    def connection_made(self, transport):
        self.transport = transport

    def data_received(self, data):
        self.transport.write(data)

    def pause_writing(self):
        self.transport.pause_reading()

    def resume_writing(self):
        self.transport.resume_reading()


class DatagramEcho(asyncio.DatagramProtocol):
    """Echoes datagrams, or tells the server's name."""

    def __init__(self, name):
        self.name = name.encode()

    def connection_made(self, transport):
        self.transport = transport

    def datagram_received(self, data, client):
        answer = self.name if data.strip() == b"whoami" else data
        self.transport.sendto(answer, client)


async def serve(options):
    loop = asyncio.get_running_loop()
    server = await loop.create_server(StreamEcho, options.addresses, options.tcp_port, backlog=4096)
    for address in options.addresses:
        await loop.create_datagram_endpoint(
            lambda: DatagramEcho(options.name), local_addr=(address, options.udp_port)
        )
    await server.serve_forever()


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--name", required=True)
    parser.add_argument("--tcp-port", type=int, required=True)
    parser.add_argument("--udp-port", type=int, required=True)
    parser.add_argument("addresses", nargs="+", metavar="ADDRESS")
    asyncio.run(serve(parser.parse_args()))


if __name__ == "__main__":
    main()
