"""One attempt to get in, made where this process runs. What to try comes as JSON on standard input, so that no secret is in a
command line; the answer is {"in": whether it got in, "said": what it was told}.

Run by a point of lab.exposure in somebody else's network.
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

# A firewall that drops says nothing: whoever has heard nothing by then is out.
TIMEOUT_S = 4.0


def connect(address: str, port: int) -> str:
    with socket.create_connection((address, port), timeout=TIMEOUT_S):
        return "connected"


def amqp(address: str, port: int, tls: dict[str, str] | None, publish_to: str = "", **login: str) -> str:
    """tls: paths of the believed authorities, and of a certificate with its key; none for plain text."""
    context = None
    if tls is not None:
        context = ssl.create_default_context(cafile=tls["authorities"])
        if "certificate" in tls:
            context.load_cert_chain(tls["certificate"], tls["key"])
    try:
        connection = Connection(address, port, tls=context, timeout=3 * TIMEOUT_S, **login)
    except struct.error as error:
        # A listener of TLS answers plain text by an alert of seven bytes, and hangs up.
        raise Refused("what came back is no AMQP") from error
    with connection:
        if publish_to:
            return f"the broker's answer to the message was {connection.publish(publish_to, 'from an intruder')}"
        return "logged in"


def listen(address: str, port: int) -> None:
    """Take connections until standard input ends."""
    with socket.create_server((address, port)):
        print("listening", flush=True)
        sys.stdin.read()


def attempt(how: str, **what: Any) -> dict[str, object]:
    try:
        return {"in": True, "said": {"connect": connect, "amqp": amqp}[how](**what)}
    except Exception as refusal:  # whatever it is, it is the answer
        return {"in": False, "said": f"{type(refusal).__name__}: {refusal}".strip(": ")}


def main() -> None:
    if sys.argv[1:2] == ["listen"]:
        listen(sys.argv[2], int(sys.argv[3]))
    else:
        began = time.monotonic()
        answer = attempt(**json.load(sys.stdin))
        print(json.dumps(answer | {"seconds": round(time.monotonic() - began, 2)}))


if __name__ == "__main__":
    main()
