"""Run a make target and keep what came of it in docs/proof.json, which README.md shows: `make proof TARGET=test-cloud`.

Without a target it prints the table, and which entries are older than the code that they judge.
"""

from __future__ import annotations

import json
import os
import platform
import re
import subprocess
import sys
import time
from typing import Any

from lab.machine import REPOSITORY

FILE, README = REPOSITORY / "docs/proof.json", REPOSITORY / "README.md"
BEGIN, END = "<!-- proof: written by make proof -->", "<!-- end of proof -->"
TARGETS = ("test", "test-operations", "test-cloud", "test-clusters", "test-apps", "test-kvm")
TARGETS += ("drill", "exposure", "audit", "mutants")
# What all of them judge.
JUDGED = ("plugins", "roles", "playbooks", "templates", "site.yml")


def git(*arguments: str) -> str:
    return subprocess.run(["git", *arguments], cwd=REPOSITORY, check=True, capture_output=True, text=True).stdout.strip()


def last_line(output: str) -> str:
    """A target's last count, or else its last line. Lines of make and of the removal of hosts may follow."""
    lines = [line.strip() for line in output.splitlines() if line.strip() and not line.startswith("make")]
    counts = [line for line in lines if re.fullmatch(r"\d+ passed, \d+ failed(, \d+ skipped)?", line)]
    return (counts or lines or ["no output"])[-1]


def run(target: str) -> dict[str, Any]:
    """Run a make target and show its output as it comes; the entry to keep."""
    if changes := git("status", "--porcelain", "--", *JUDGED, "lab", "molecule", "tests"):
        raise SystemExit(f"TARGET={target}: commit these first, a proof names the commit that it is of:\n{changes}")
    began, lines = time.time(), []
    command = ["make", "--no-print-directory", target]
    with subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        for line in process.stdout or ():
            print(line, end="", flush=True)
            lines.append(line)
    system = platform.freedesktop_os_release()
    return {
        "commit": git("rev-parse", "--short=10", "HEAD"),
        "date": time.strftime("%Y-%m-%d", time.gmtime(began)),
        "machine": f"Debian {system.get('VERSION_ID', '?')}, Python {platform.python_version()}, {os.cpu_count()} cores",
        "minutes": round((time.time() - began) / 60, 1),
        "passed": process.returncode == 0,
        "result": last_line("".join(lines)),
    }


def table(entries: dict[str, dict[str, Any]]) -> str:
    lines = ["| target | result | commit | date | machine | minutes |", "|---|---|---|---|---|---:|"]
    for target, entry in entries.items():
        result = ("" if entry["passed"] else "**failed**: ") + entry["result"]
        lines.append(
            f"| `make {target}` | {result} | {entry['commit']} | {entry['date']} | {entry['machine']} | {entry['minutes']} |"
        )
    missing = ", ".join(f"`make {target}`" for target in TARGETS if target not in entries)
    return "\n".join([*lines, *(["", f"Not recorded yet: {missing}."] if missing else [])])


def readme(text: str, entries: dict[str, dict[str, Any]]) -> str:
    before, rest = text.split(BEGIN)
    return f"{before}{BEGIN}\n{table(entries)}\n{END}{rest.split(END)[1]}"


def stale(commit: str) -> bool:
    """Whether the code has changed since the commit, or this checkout does not know the commit."""
    done = subprocess.run(["git", "diff", "--quiet", commit, "HEAD", "--", *JUDGED], cwd=REPOSITORY, stderr=subprocess.DEVNULL)
    return done.returncode != 0


def main() -> None:
    entries = json.loads(FILE.read_text(encoding="utf-8")) if FILE.exists() else {}
    target = sys.argv[1] if len(sys.argv) > 1 else ""
    if target and target not in TARGETS:
        raise SystemExit(f"TARGET={target}: not a target that is recorded; there is {', '.join(TARGETS)}")
    if target:
        entries[target] = run(target)
        FILE.write_text(json.dumps(entries, indent=2, sort_keys=True) + "\n", encoding="utf-8")
        README.write_text(readme(README.read_text(encoding="utf-8"), entries), encoding="utf-8")
    print(table(entries))
    for name, entry in entries.items():
        if stale(entry["commit"]):
            print(f"stale: make {name} ran at {entry['commit']}; the code has changed since")
    raise SystemExit(0 if not target or entries[target]["passed"] else 1)


if __name__ == "__main__":
    main()
