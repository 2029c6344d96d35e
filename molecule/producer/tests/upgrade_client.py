"""Asks a server with HTTPS to change the connection to a protocol; sends a text after a 101, and prints status and echo.

Arguments: address:port, path, protocol, authorities.
"""

import socket
import ssl
import sys

address, path, protocol, bundle = sys.argv[1:]
name, _, port = address.rpartition(":")
name = name.strip("[]")
context = ssl.create_default_context(cafile=bundle)
head = [f"GET {path} HTTP/1.1", f"Host: {address}", "Connection: Upgrade, HTTP2-Settings", f"Upgrade: {protocol}"]
head += ["HTTP2-Settings: AAMAAABkAAQAAP__", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==", "Sec-WebSocket-Version: 13"]
with context.wrap_socket(socket.create_connection((name, int(port)), timeout=10), server_hostname=name) as client:
    client.sendall(("\r\n".join(head) + "\r\n\r\n").encode())
    answer = client.makefile("rb")
    status = answer.readline().split()[1].decode()
    while answer.readline().strip():
        pass
    if status == "101":
        client.sendall(b"a frame")
        status += " " + answer.read(7).decode()
    print(status)
