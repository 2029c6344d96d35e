"""Runs on a host of the scenario: serves its identity over TLS, and connects to its neighbour ten times per second.

Like Celery, it reads the files again for each connection. Writes to RESULT how many handshakes succeeded, and each failure.
"""

import contextlib
import json
import os
import socket
import ssl
import sys
import threading
import time

HOME, PORT, RESULT = "/etc/grunnfjell/pki", 4434, "/run/peer.json"
neighbour = sys.argv[1]
result = {"succeeded": 0, "failures": []}


def context(side):
    files = f"{HOME}/guest/certificate.pem", f"{HOME}/guest/key.pem"
    tls = ssl.SSLContext(side)
    tls.verify_mode = ssl.CERT_REQUIRED
    tls.load_verify_locations(f"{HOME}/authorities.pem")
    try:
        tls.load_cert_chain(*files)
    except ssl.SSLError:  # one file from before the switch and one from after it
        tls.load_cert_chain(*files)
    return tls


def answer(raw):
    with contextlib.suppress(OSError), raw, context(ssl.PROTOCOL_TLS_SERVER).wrap_socket(raw, server_side=True) as tls:
        tls.sendall(b"hello")


def serve():
    server = socket.create_server(("", PORT))
    while True:
        threading.Thread(target=answer, args=(server.accept()[0],), daemon=True).start()


threading.Thread(target=serve, daemon=True).start()
deadline = time.monotonic() + 30
while time.monotonic() < deadline:
    try:
        socket.create_connection((neighbour, PORT), 1).close()
        break
    except OSError:
        time.sleep(0.1)  # until the neighbour listens too; the deadline ends it
while True:
    try:
        raw = socket.create_connection((neighbour, PORT), timeout=10)
        with raw, context(ssl.PROTOCOL_TLS_CLIENT).wrap_socket(raw, server_hostname=neighbour) as tls:
            assert tls.recv(5) == b"hello", "hung up on us"
        result["succeeded"] += 1
    except (OSError, AssertionError) as error:
        result["failures"].append(repr(error))
    # Replaced as a whole, because the test reads it at any moment.
    with open(f"{RESULT}.new", "w", encoding="utf-8") as file:
        json.dump(result, file)
    os.replace(f"{RESULT}.new", RESULT)
    time.sleep(0.1)  # ten handshakes per second are enough to meet every switch
