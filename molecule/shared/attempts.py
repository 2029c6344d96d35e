"""One attempt to get in, made from a point of lab.exposure, whose network namespace this process runs in.

The attempt comes as JSON on standard input, so no secret is in a command line. Prints {"in": whether it got in, "answer": what
came back, "seconds": duration}.
"""

from __future__ import annotations

import json
import socket
import ssl
import struct
import sys
import time
from typing import Any

from amqp_probe import Connection, Refused

# A firewall that drops packets sends no answer: silence for this long counts as refused.
TIMEOUT_S = 4.0


def connect(address: str, port: int) -> str:
    with socket.create_connection((address, port), timeout=TIMEOUT_S):
        return "connected"


def amqp(address: str, port: int, tls: dict[str, str] | None, publish_to: str = "", **login: str) -> str:
    """tls: paths of the trusted authorities, and of a certificate with its key; None for plain text."""
    context = None
    if tls is not None:
        context = ssl.create_default_context(cafile=tls["authorities"])
        if "certificate" in tls:
            context.load_cert_chain(tls["certificate"], tls["key"])
    try:
        connection = Connection(address, port, tls=context, timeout=3 * TIMEOUT_S, **login)
    except struct.error as error:
        # A TLS listener answers plain text with an alert of seven bytes, and hangs up.
        raise Refused("the answer is no AMQP") from error
    with connection:
        if publish_to:
            return f"the broker's answer to the message was {connection.publish(publish_to, 'from an intruder')}"
        return "logged in"


def listen(address: str, port: int) -> None:
    """Accept connections until standard input ends."""
    with socket.create_server((address, port)):
        print("listening", flush=True)
        sys.stdin.read()


def attempt(how: str, **arguments: Any) -> dict[str, object]:
    try:
        return {"in": True, "answer": {"connect": connect, "amqp": amqp}[how](**arguments)}
    except Exception as refusal:  # any failure is an answer
        return {"in": False, "answer": f"{type(refusal).__name__}: {refusal}".strip(": ")}


def main() -> None:
    if sys.argv[1:2] == ["listen"]:
        listen(sys.argv[2], int(sys.argv[3]))
    else:
        began = time.monotonic()
        answer = attempt(**json.load(sys.stdin))
        print(json.dumps(answer | {"seconds": round(time.monotonic() - began, 2)}))


if __name__ == "__main__":
    main()
