"""A server behind the virtual address. usage: health_server.py PORT CERTIFICATE KEY

Answers /healthz with the status in /run/health-server (200 without the file), and any other path with the host's name and the
client's address. Requests that ask for another name than jobs.example.org, as many applications do not answer, get 421.
"""

from __future__ import annotations

import socket
import ssl
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

STATUS = Path("/run/health-server")


class Page(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        health = self.path == "/healthz"
        status = int(STATUS.read_text()) if health and STATUS.exists() else 200
        self.send_response(status if self.headers["Host"] == "jobs.example.org" else 421)
        self.end_headers()
        self.wfile.write(f"{socket.gethostname()} {self.client_address[0]}\n".encode())

    def log_message(self, *_: object) -> None:
        pass


class Server(ThreadingHTTPServer):
    def finish_request(self, request, client_address) -> None:
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.load_cert_chain(sys.argv[2], sys.argv[3])
        with tls.wrap_socket(request, server_side=True) as wrapped:
            self.RequestHandlerClass(wrapped, client_address, self)

    def handle_error(self, *_: object) -> None:
        """Health checks and clients may be cut off."""


# On the host's own address, as a producer: nothing here listens on the virtual one.
with socket.socket(type=socket.SOCK_DGRAM) as route:
    route.connect(("10.77.0.1", 9))
    address = route.getsockname()[0]
Server((address, int(sys.argv[1])), Page).serve_forever()
