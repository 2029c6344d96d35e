"""Runs on a host of the scenario: shows its identity to whoever comes, and comes to its neighbour ten times a second.

As Celery does, it reads the files anew for each connection. What came of it is written to a file: done, and what failed.
"""

import contextlib
import json
import os
import socket
import ssl
import sys
import threading
import time

HOME, PORT, TELLS = "/etc/grunnfjell/pki", 4434, "/run/peer.json"
neighbour = sys.argv[1]
told = {"done": 0, "failed": []}


def context(side):
    files = f"{HOME}/guest/certificate.pem", f"{HOME}/guest/key.pem"
    made = ssl.SSLContext(side)
    made.verify_mode = ssl.CERT_REQUIRED
    made.load_verify_locations(f"{HOME}/authorities.pem")
    try:
        made.load_cert_chain(*files)
    except ssl.SSLError:  # one file from before the switch and one from after it
        made.load_cert_chain(*files)
    return made


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
        time.sleep(0.1)  # until the neighbour's stands too; the deadline ends it
while True:
    try:
        raw = socket.create_connection((neighbour, PORT), timeout=10)
        with raw, context(ssl.PROTOCOL_TLS_CLIENT).wrap_socket(raw, server_hostname=neighbour) as tls:
            assert tls.recv(5) == b"hello", "hung up on us"
        told["done"] += 1
    except (OSError, AssertionError) as error:
        told["failed"].append(repr(error))
    # Whole at any moment: it is read while this goes on.
    with open(f"{TELLS}.new", "w", encoding="utf-8") as file:
        json.dump(told, file)
    os.replace(f"{TELLS}.new", TELLS)
    time.sleep(0.1)  # some ten handshakes a second are enough to meet every switch
