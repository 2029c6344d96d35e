"""Ports of a host, brought here through its SSH session: a firewall lets no judge in, and SSH forwards no port.

One SSH session per host runs REMOTE below, which opens the connections that are asked for and passes their bytes on. A frame is
the connection's number, the length of what follows, and that; an empty one closes.
"""

from __future__ import annotations

import asyncio
import shlex
import struct
import sys
from contextlib import asynccontextmanager

HEAD = struct.Struct("!II")

# Runs on the host with its own Python and nothing else. The first frame of a connection says where it goes.
REMOTE = """
import os, selectors, socket, struct, sys
head, sel, socks, buffer = struct.Struct("!II"), selectors.DefaultSelector(), {}, b""
def send(number, data):
    whole = head.pack(number, len(data)) + data
    while whole:
        whole = whole[os.write(1, whole):]
def close(number):
    sock = socks.pop(number, None)
    if sock:
        sel.unregister(sock)
        sock.close()
        send(number, b"")
sel.register(0, selectors.EVENT_READ, None)
while True:
    for key, _ in sel.select():
        if key.data is None:
            piece = os.read(0, 65536)
            if not piece:
                sys.exit()
            buffer += piece
            while len(buffer) >= 8:
                number, length = head.unpack(buffer[:8])
                if len(buffer) < 8 + length:
                    break
                data, buffer = buffer[8:8 + length], buffer[8 + length:]
                try:
                    if not data:
                        close(number)
                    elif number in socks:
                        socks[number].sendall(data)
                    elif data.startswith(b"OPEN "):
                        where, port = data[5:].decode().rsplit(" ", 1)
                        socks[number] = socket.create_connection((where, int(port)), timeout=5)
                        sel.register(socks[number], selectors.EVENT_READ, number)
                except OSError:
                    close(number) if number in socks else send(number, b"")
        elif key.data in socks:
            try:
                data = socks[key.data].recv(65536)
            except OSError:
                data = b""
            send(key.data, data) if data else close(key.data)
"""


class Relay:
    """Gives each port of the host a port of this machine's loopback, for as long as the session stands."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self._clients: dict[int, asyncio.StreamWriter] = {}
        self._next = 0
        self._servers: list[asyncio.Server] = []

    async def port(self, address: str, port: int) -> int:
        async def serve(reading: asyncio.StreamReader, writing: asyncio.StreamWriter) -> None:
            self._next += 1
            number = self._next
            self._clients[number] = writing
            await self._send(number, f"OPEN {address} {port}".encode())
            try:
                while data := await reading.read(65536):
                    await self._send(number, data)
            except OSError:
                pass
            if self._clients.pop(number, None):
                await self._send(number, b"")
                writing.close()

        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        self._servers.append(server)
        return server.sockets[0].getsockname()[1]

    async def _send(self, number: int, data: bytes) -> None:
        self._process.stdin.write(HEAD.pack(number, len(data)) + data)
        await self._process.stdin.drain()

    async def pump(self) -> None:
        """Hand what the host answers to whom it belongs."""
        while True:
            number, length = HEAD.unpack(await self._process.stdout.readexactly(HEAD.size))
            data = await self._process.stdout.readexactly(length)
            writing = self._clients.get(number)
            if writing is None:
                continue
            if data:
                writing.write(data)
            else:
                self._clients.pop(number).close()

    def close(self) -> None:
        for server in self._servers:
            server.close()
        for writing in self._clients.values():
            writing.close()


@asynccontextmanager
async def relay(command: list[str]):
    """`command` runs one more word on the host, as `ssh HOST` does; empty: on this machine."""
    remote = [*command, f"exec python3 -c {shlex.quote(REMOTE)}"] if command else [sys.executable, "-c", REMOTE]
    process = await asyncio.create_subprocess_exec(*remote, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE)
    through = Relay(process)
    pump = asyncio.create_task(through.pump())
    try:
        yield through
    finally:
        pump.cancel()
        through.close()
        process.stdin.close()
        await process.wait()
