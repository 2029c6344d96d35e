"""Servers behind HAProxy on a host of the scenario. usage: backend.py NAME CERTIFICATE KEY AUTHORITIES

15432, 15433: send their name to each client, then echo each line.  15671: the same over TLS, for clients with a certificate.
8008: answers every request over HTTPS, of clients with a certificate, with the status in /run/backend/status.
"""

from __future__ import annotations

import socketserver
import ssl
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

NAME, CERTIFICATE, KEY, AUTHORITIES = sys.argv[1:]
STATUS = Path("/run/backend/status")


def context() -> ssl.SSLContext:
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(CERTIFICATE, KEY)
    tls.load_verify_locations(AUTHORITIES)
    tls.verify_mode = ssl.CERT_REQUIRED
    return tls


class Echo(socketserver.StreamRequestHandler):
    def handle(self) -> None:
        self.wfile.write(f"{NAME}\n".encode())
        for line in self.rfile:
            self.wfile.write(line)


class Health(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(int(STATUS.read_text()))
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


class Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = daemon_threads = True
    request_queue_size = 128

    def handle_error(self, *_: object) -> None:
        """Clients disconnect all the time."""


class TlsServer(Server):
    def finish_request(self, request, client_address) -> None:
        with context().wrap_socket(request, server_side=True) as wrapped:
            self.RequestHandlerClass(wrapped, client_address, self)


class HealthServer(ThreadingHTTPServer):
    def finish_request(self, request, client_address) -> None:
        with context().wrap_socket(request, server_side=True) as wrapped:
            self.RequestHandlerClass(wrapped, client_address, self)

    def handle_error(self, *_: object) -> None:
        """Health checks may be cut off."""


servers = [
    Server(("", 15432), Echo),
    Server(("", 15433), Echo),
    TlsServer(("", 15671), Echo),
    HealthServer(("", 8008), Health),
]
for server in servers[1:]:
    threading.Thread(target=server.serve_forever, daemon=True).start()
servers[0].serve_forever()
