"""Record the lab's network while real jobs pass, and search the recording for everything that should be unreadable."""

from __future__ import annotations

import secrets
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lab.containers import bridge
from lab.demo import fleet as fleets
from lab.demo import traffic, videos
from lab.demo.fleet import Fleet
from lab.exposure import wire
from lab.exposure.points import network_of
from lab.machine import Refusal
from lab.vault import leaves, secrets_of

FILM = videos.Video("capture", (320, 180), 1, (320, 180))
JOBS = 4
DONE_S = 180.0
# tcpdump prints it when it has opened the device.
OPENED = "listening on"


def vault(inventory: str) -> dict[str, str]:
    """Every secret of the inventory by its name; of a key in PEM only its first line."""
    values: dict[str, str] = {}
    for name, value in leaves(secrets_of(inventory)):
        values.setdefault(name, value)
    return values


@contextmanager
def recorded(hosts: Sequence[str], file: Path) -> Iterator[None]:
    """All packets of these addresses on the lab's bridge, except SSH, which this program uses."""
    addresses = " or ".join(f"host {address}" for address in hosts)
    # Packet by packet: the last packet of the last job must be in the file.
    options = ["--immediate-mode", "-U", "-s", "0", "-Z", "root", "-i", bridge(network_of(hosts)), "-w", str(file)]
    command = ["tcpdump", *options, f"({addresses}) and not tcp port 22"]
    tcpdump = subprocess.Popen(command, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True)
    try:
        output = []
        # It opens the device, or it ends and so does its output.
        for line in tcpdump.stderr or ():
            output.append(line)
            if OPENED in line:
                break
        else:
            raise Refusal(f"tcpdump did not start:\n{''.join(output)}")
        yield
    finally:
        tcpdump.send_signal(signal.SIGINT)
        tcpdump.wait(timeout=30)


def log_in_again(fleet: Fleet) -> None:
    """Make every client reconnect, so the recording has logins too. No job is running."""
    for host in fleet.group("rabbitmq"):
        host.run(["rabbitmqctl", "-q", "close_all_connections", "the wire is recorded"])
    for host in fleet.group("pgbouncer"):
        console = "port=$(sed -n 's/^listen_port = //p' /etc/pgbouncer/pgbouncer.ini); "
        console += "where=$(sed -n 's/^unix_socket_dir = //p' /etc/pgbouncer/pgbouncer.ini); "
        host.run(
            ["sh", "-c", console + 'runuser -u postgres -- psql -Xq -h "$where" -p "$port" -U pgbouncer pgbouncer -c RECONNECT']
        )


def film(canary: str, folder: Path) -> Path:
    plain, marked = videos.make((FILM,), folder)[FILM], folder / "marked.mkv"
    options = ["-v", "error", "-nostdin", "-y", "-i", str(plain), "-c", "copy", "-metadata", f"comment={canary}"]
    subprocess.run(["ffmpeg", *options, str(marked)], check=True)
    if canary.encode() not in marked.read_bytes():
        raise Refusal("the film does not contain the canary, so the search would find nothing")
    return marked


def work(fleet: Fleet, upload: Path) -> list[str]:
    """Send jobs through the producers until each is done; returns their keys."""
    producers = fleet.group("producers")
    accepted = []
    deadline = time.monotonic() + DONE_S
    while len(accepted) < JOBS:
        answer = traffic.post(producers[len(accepted) % len(producers)].url, upload)
        if answer.status == 202:
            accepted.append(answer)
        elif time.monotonic() > deadline:
            raise Refusal(f"a job was not accepted while the wire was recorded: {answer}")
        else:
            time.sleep(1)  # until the programs are connected again; the deadline ends it
    for answer in accepted:
        while (state := traffic.look(answer.location).get("state")) != "done":
            if state == "failed" or time.monotonic() > deadline:
                raise Refusal(f"the job {answer.location} is {state} after {DONE_S:.0f} s at most")
            time.sleep(0.5)  # between two looks; the deadline ends them
    return [answer.location.rsplit("/", 1)[1] for answer in accepted]


def capture(inventory: str, ports: Sequence[int]) -> dict[str, Any]:
    """`ports` are those of the declared flows."""
    fleet, canary = fleets.read(inventory), f"canary-{secrets.token_hex(12)}"
    searched = vault(inventory)
    with tempfile.TemporaryDirectory(prefix="grunnfjell-wire-") as home:
        file = Path(home) / "wire.pcap"
        upload = film(canary, Path(home))
        with recorded([host.address for host in fleet.hosts], file):
            log_in_again(fleet)
            keys = work(fleet, upload)
        pcap = file.read_bytes()
    searched |= {"the upload's content": canary} | {f"the key of job {number}": key for number, key in enumerate(keys, 1)}
    return findings(pcap, searched, ports, len(keys))


def findings(pcap: bytes, searched: dict[str, str], ports: Sequence[int], jobs: int) -> dict[str, Any]:
    streams = wire.streams(pcap)
    # The file itself too: it also has datagrams and everything else that is not TCP.
    readable = wire.readable([pcap, *(stream.content() for stream in streams)], searched)
    return {
        "jobs": jobs,
        "packets": sum(1 for _ in wire.packets(pcap)),
        "bytes": len(pcap),
        "looked_for": sorted(searched),
        "readable": sorted(readable),
        "readable_as": readable,
        "ports": [
            {
                "port": port,
                "packets": count.packets,
                "payload_bytes": count.payload,
                "tls_bytes": count.tls,
                "tls_share": round(count.tls / count.payload, 4) if count.payload else 0.0,
            }
            for port, count in sorted(wire.by_port(streams, ports).items())
        ],
    }
