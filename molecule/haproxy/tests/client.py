"""A client of HAProxy on a host of the scenario.

client.py who PORT             prints the name of the server that answers, or nothing
client.py hold PORT FILE       keeps one session, sends a line every 50 ms, and writes {"server", "echoed", "ended"} to FILE
client.py storm PORT SECONDS   connects again and again; prints how often each server answered, "" for a connection without answer
"""

from __future__ import annotations

import json
import socket
import sys
import time
from collections import Counter
from pathlib import Path


def who(port: int) -> str:
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
            return connection.makefile().readline().strip()
    except OSError:
        return ""


def hold(port: int, file: Path) -> None:
    with socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
        stream = connection.makefile("rw")
        state = {"server": stream.readline().strip(), "echoed": 0, "ended": False}
        while not state["ended"]:
            try:
                stream.write("x\n")
                stream.flush()
                state["ended"] = stream.readline() != "x\n"
            except OSError:
                state["ended"] = True
            state["echoed"] += not state["ended"]
            file.with_suffix(".new").write_text(json.dumps(state))
            file.with_suffix(".new").rename(file)
            time.sleep(0.05)  # a client's pause between two lines of its session


def storm(port: int, seconds: float) -> Counter[str]:
    answers: Counter[str] = Counter()
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        answers[who(port)] += 1
        time.sleep(0.005)  # a client's pause between two requests
    return answers


match sys.argv[1:]:
    case ["who", port]:
        print(who(int(port)))
    case ["hold", port, file]:
        hold(int(port), Path(file))
    case ["storm", port, seconds]:
        print(json.dumps(storm(int(port), float(seconds))))
