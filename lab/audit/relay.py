"""Ports of a host, made local through its SSH session: firewalls admit no auditor, and sshd forwards no port.

One SSH session per host runs lab/guest/relay.py, which describes the frames.
"""

from __future__ import annotations

import asyncio
import shlex
import struct
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from lab.machine import REPOSITORY

HEAD = struct.Struct("!II")
REMOTE = (REPOSITORY / "lab/guest/relay.py").read_text(encoding="utf-8")


class Relay:
    """Gives each port of the host a port of this machine's loopback while the session lasts."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self._clients: dict[int, asyncio.StreamWriter] = {}
        self._next = 0
        self._servers: list[asyncio.Server] = []

    async def port(self, address: str, port: int) -> int:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            self._next += 1
            number = self._next
            self._clients[number] = writer
            await self._send(number, f"OPEN {address} {port}".encode())
            try:
                while data := await reader.read(65536):
                    await self._send(number, data)
            except OSError:
                pass
            if self._clients.pop(number, None):
                await self._send(number, b"")
                writer.close()

        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        self._servers.append(server)
        return server.sockets[0].getsockname()[1]

    async def _send(self, number: int, data: bytes) -> None:
        self._process.stdin.write(HEAD.pack(number, len(data)) + data)
        await self._process.stdin.drain()

    async def pump(self) -> None:
        """Pass what the host sends to the client of its connection."""
        while True:
            number, length = HEAD.unpack(await self._process.stdout.readexactly(HEAD.size))
            data = await self._process.stdout.readexactly(length)
            writer = self._clients.get(number)
            if writer and data:
                writer.write(data)
            elif writer:
                self._clients.pop(number).close()

    def close(self) -> None:
        for server in self._servers:
            server.close()
        for writer in self._clients.values():
            writer.close()


@asynccontextmanager
async def relay(command: list[str]) -> AsyncIterator[Relay]:
    """`command` runs the word after it on the host, as `ssh HOST` does; empty: on this machine."""
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
