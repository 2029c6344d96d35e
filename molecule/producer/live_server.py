"""A web server of the standard library, as a named one of a producer: it answers, streams, and takes websockets.

It serves the listening socket that is its standard input. Each answer says which server it comes from and what it was told.
"""

import base64
import hashlib
import http.server
import json
import os
import signal
import socket
import threading

WEBSOCKET_GUID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # RFC 6455, 1.3
stopping = threading.Event()


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = 5

    def do_GET(self):
        if self.headers["Upgrade"] == "websocket":
            self.echo()
        elif self.path.endswith("/stream"):
            self.stream()
        else:
            report = {"server": "live", "processes": os.environ["WEB_CONCURRENCY"], "headers": dict(self.headers)}
            self.answer(json.dumps(report).encode())

    def answer(self, body):
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def echo(self):
        digest = hashlib.sha1((self.headers["Sec-WebSocket-Key"] + WEBSOCKET_GUID).encode()).digest()
        self.send_response(101)
        self.send_header("Upgrade", "websocket")
        self.send_header("Connection", "Upgrade")
        self.send_header("Sec-WebSocket-Accept", base64.b64encode(digest).decode())
        self.end_headers()
        self.close_connection = True
        self.wfile.write(self.connection.recv(64))

    def stream(self):
        """One event at once, and the end only when the server stops or after some seconds."""
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("X-Accel-Buffering", "no")
        self.end_headers()
        self.close_connection = True
        self.wfile.write(b"data: first\n\n")
        stopping.wait(20)

    def log_message(self, text, *values):
        print(self.headers["X-Forwarded-For"], text % values, flush=True)


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = False  # a stop waits for the requests

    def __init__(self):
        super().__init__(("", 0), Handler, bind_and_activate=False)
        self.socket.close()
        self.socket = socket.socket(fileno=0)

    def stop(self, *_):
        stopping.set()
        threading.Thread(target=self.shutdown).start()


server = Server()
signal.signal(signal.SIGTERM, server.stop)
server.serve_forever()
server.server_close()
