"""`python -m lab.apps.release_cost`: what a release with one changed line costs on two hosts (build/release-cost.json).

Its hosts must stand, and need no role: `ansible-playbook -i inventories/apps lab/create.yml --limit pretix-web1,pretix-worker1`.
Each round builds every kind of release, one after the other, so all of them see the same machine.
"""

from __future__ import annotations

import json
import shutil
import statistics
import subprocess
import tempfile
import time
from pathlib import Path

from lab.demo import fleet
from lab.demo.fleet import Host
from lab.drill.hosts import shell
from lab.machine import BIN, BUILD, REPOSITORY, Refusal, refusals_shown, write_whole

INVENTORY, NAMES, ROOT = "inventories/apps", ("pretix-web1", "pretix-worker1"), "/opt/measured"
ROUNDS = 3
# Name → the application, where its packages come from, and whether the hosts have those of this lock already.
KINDS = {
    "pretix: an environment for each release": ("pretix", "index", False),
    "pretix: lock unchanged": ("pretix", "index", True),
    "newsroom: new lock, packages from the index": ("newsroom", "index", False),
    "newsroom: new lock, wheels from the control machine": ("newsroom", "control", False),
}


def received(hosts: list[Host]) -> int:
    return sum(int(shell(host, "cat /sys/class/net/eth0/statistics/rx_bytes")) for host in hosts)


def on_disk(hosts: list[Host], kept: bool) -> int:
    """The release, with its environment if that is new too. A release that no program runs goes with the next build."""
    return sum(int(shell(host, f"du --summarize --bytes {ROOT}{'/releases' * kept} | cut -f1")) for host in hosts)


def build(source: Path, requirements_from: str) -> None:
    asked = {
        "source": {"directory": str(source)}, "root": ROOT, "settings": "/etc/measured", "version": "1",
        "requirements_from": requirements_from,
    }  # fmt: skip
    command = [BIN / "ansible", "-i", INVENTORY, ",".join(NAMES), "-m", "grunnfjell.platform.application_release"]
    done = subprocess.run([*command, "-a", json.dumps(asked)], cwd=REPOSITORY, capture_output=True, text=True, check=False)
    if done.returncode:
        raise Refusal(f"the release was not built:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")


def measure() -> dict[str, dict[str, float]]:
    hosts = [host for host in fleet.read(INVENTORY).hosts if host.name in NAMES]
    for host in hosts:
        shell(host, f"apt-get update -qq; apt-get install -qq -y python3-venv > /dev/null; rm -rf {ROOT}")
    figures: dict[str, list[tuple[float, int, int]]] = {kind: [] for kind in KINDS}
    with tempfile.TemporaryDirectory() as home:
        for name in ("pretix", "newsroom"):
            shutil.copytree(REPOSITORY / "examples" / name, Path(home, name))
        for number in range(ROUNDS):
            for kind, (name, requirements_from, kept) in KINDS.items():
                Path(home, name, "release.txt").write_text(f"{kind} {number}\n", encoding="utf-8")
                if not kept:
                    for host in hosts:
                        shell(host, f"rm -rf {ROOT}")
                before, began = received(hosts), time.monotonic()
                build(Path(home, name), requirements_from)
                figures[kind].append((time.monotonic() - began, received(hosts) - before, on_disk(hosts, kept)))
                print(f"{kind}: {figures[kind][-1]}", flush=True)
    return {
        kind: {
            "seconds": round(statistics.median(row[0] for row in rows), 1),
            "received_bytes": round(statistics.median(row[1] for row in rows)),
            "disk_bytes": round(statistics.median(row[2] for row in rows)),
        }
        for kind, rows in figures.items()
    }


if __name__ == "__main__":
    with refusals_shown():
        write_whole(BUILD / "release-cost.json", json.dumps(measure(), indent=2) + "\n")
        print((BUILD / "release-cost.json").read_text(encoding="utf-8"))
