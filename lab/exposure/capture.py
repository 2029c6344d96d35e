"""Record the lab's network while real jobs pass, and look for everything in it that should be unreadable."""

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

from lab.demo import fleet as fleets
from lab.demo import traffic, videos
from lab.demo.fleet import Fleet
from lab.exposure import wire
from lab.exposure.asked import asked
from lab.exposure.points import bridge, network_of
from lab.machine import Refusal

FILM = videos.Video("capture", (320, 180), 1, (320, 180))
JOBS = 4
DONE_S = 180.0
# What tcpdump says once it sees the device.
OPENED = "listening on"


def vault(inventory: str) -> dict[str, str]:
    """Every secret of the inventory that is worth a name: {variable, or variable and key: value}."""
    return dict(leaves(asked(inventory, "vault")))


def leaves(told: Any, name: str = "") -> Iterator[tuple[str, str]]:
    """The secrets in nested variables. A key in PEM is looked for by a line of it: its lines may be broken elsewhere."""
    if isinstance(told, dict):
        for key, value in told.items():
            yield from leaves(value, f"{name}.{key}" if name else str(key))
    elif isinstance(told, str) and "PRIVATE KEY" in told:
        yield name, told.strip().splitlines()[1]
    elif isinstance(told, str) and len(told) >= 8 and "CERTIFICATE" not in told:
        yield name, told


@contextmanager
def recorded(hosts: Sequence[str], file: Path) -> Iterator[None]:
    """Everything that the named addresses say and hear on the lab's bridge. SSH is left out: that is this test itself."""
    those = " or ".join(f"host {address}" for address in hosts)
    # At once and one by one, so that the last packet of a job that is done is in the file.
    command = [
        "tcpdump",
        "--immediate-mode",
        "-i",
        bridge(network_of(hosts)),
        "-s",
        "0",
        "-U",
        "-w",
        str(file),
        "-Z",
        "root",
        f"({those}) and not tcp port 22",
    ]
    tcpdump = subprocess.Popen(command, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True)
    try:
        said = []
        # It opens the device or ends, and its words end with it.
        for line in tcpdump.stderr or ():
            said.append(line)
            if OPENED in line:
                break
        else:
            raise Refusal(f"tcpdump did not start:\n{''.join(said)}")
        yield
    finally:
        tcpdump.send_signal(signal.SIGINT)
        tcpdump.wait(timeout=30)


def log_in_again(fleet: Fleet) -> None:
    """Have every client connect anew, so that logins pass, too. Nothing is at work at that moment."""
    for host in fleet.group("rabbitmq"):
        host.run(["rabbitmqctl", "-q", "close_all_connections", "the wire is recorded"])
    for host in fleet.group("pgbouncer"):
        console = "port=$(sed -n 's/^listen_port = //p' /etc/pgbouncer/pgbouncer.ini); "
        console += "where=$(sed -n 's/^unix_socket_dir = //p' /etc/pgbouncer/pgbouncer.ini); "
        host.run(
            ["sh", "-c", console + 'runuser -u postgres -- psql -Xq -h "$where" -p "$port" -U pgbouncer pgbouncer -c RECONNECT']
        )


def film(canary: str, folder: Path) -> Path:
    made = videos.make((FILM,), folder)[FILM]
    marked = folder / "marked.mkv"
    command = [
        "ffmpeg",
        "-v",
        "error",
        "-nostdin",
        "-y",
        "-i",
        str(made),
        "-c",
        "copy",
        "-metadata",
        f"comment={canary}",
        str(marked),
    ]
    subprocess.run(command, check=True)
    if canary.encode() not in marked.read_bytes():
        raise Refusal("the canary is not in the film, so that nothing would be looked for")
    return marked


def work(fleet: Fleet, sent: Path) -> list[str]:
    """Send jobs through the producer until each is done; answers their keys."""
    producers = fleet.group("producers")
    accepted = []
    deadline = time.monotonic() + DONE_S
    while len(accepted) < JOBS:
        answer = traffic.post(producers[len(accepted) % len(producers)].url, sent)
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
    looked_for = vault(inventory)
    with tempfile.TemporaryDirectory(prefix="grunnfjell-wire-") as home:
        file = Path(home) / "wire.pcap"
        sent = film(canary, Path(home))
        with recorded([host.address for host in fleet.hosts], file):
            log_in_again(fleet)
            keys = work(fleet, sent)
        pcap = file.read_bytes()
    looked_for |= {"the upload's content": canary} | {f"the key of job {number}": key for number, key in enumerate(keys, 1)}
    return told(pcap, looked_for, ports, len(keys))


def told(pcap: bytes, looked_for: dict[str, str], ports: Sequence[int], jobs: int) -> dict[str, Any]:
    streams = wire.streams(pcap)
    # The file itself as well: datagrams, and whatever is no TCP.
    found = wire.readable([pcap, *(stream.content() for stream in streams)], looked_for)
    counted = wire.by_port(streams, ports)
    return {
        "jobs": jobs,
        "packets": sum(1 for _ in wire.packets(pcap)),
        "bytes": len(pcap),
        "looked_for": sorted(looked_for),
        "readable": sorted(found),
        "readable_as": found,
        "ports": [
            {
                "port": port,
                "packets": count.packets,
                "payload_bytes": count.payload,
                "tls_bytes": count.tls,
                "tls_share": round(count.tls / count.payload, 4) if count.payload else 0.0,
            }
            for port, count in sorted(counted.items())
        ],
    }
