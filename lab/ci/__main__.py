"""Run what passes judgement on the kit, count it, and say at the end what passed and what did not.

Everything runs even if something before it failed, so that one run tells all; only tests of hosts that could not be
provisioned are left out, and count as one failure.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from lab.ci.counts import BUILD, Count, write_down
from lab.ci.running import Step, run, run_aside
from lab.ci.scenarios import run_scenarios
from lab.ci.steps import DEFAULT_PARTS, STEPS
from lab.hosts import containers
from lab.machine import Refusal, podman

# What to read first when a service does not do what it promised.
LOGS = """
journalctl --no-pager --quiet --priority=warning --lines=20
for log in /var/log/celery/*.log /var/log/rabbitmq/*.log /var/log/postgresql/*.log /var/log/supervisor/supervisord.log; do
  [ ! -s "$log" ] || { echo "-- $log"; tail -n 12 "$log"; }
done
"""


def show_logs() -> None:
    try:
        for container in containers():
            print(f"\n--- {container.name}, {container.state}", flush=True)
            if container.alive:
                print(podman("exec", container.name, "sh", "-c", LOGS, check=False).stdout)
    except (Refusal, OSError) as problem:
        print(f"no logs of the hosts: {problem}")


def show_consoles() -> None:
    for console in sorted(Path("/var/log/libvirt/qemu").glob("grunnfjell-kvm-*-console.log")):
        lines = console.read_text(encoding="utf-8", errors="replace").splitlines()
        print(f"\n--- {console.name}", *lines[-12:], sep="\n", flush=True)


def show_what_to_read(step: Step, result: Count) -> None:
    if result.failed and step.part == "kvm":
        show_consoles()
    elif result.failed and step.part in ("demo", "verify", "operations", "drill"):
        show_logs()


def main() -> None:
    parts = sorted({step.part for step in STEPS})
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "parts", nargs="*", metavar="PART", help=f"{', '.join(parts)}; {', '.join(DEFAULT_PARTS)} if none is named"
    )
    parser.add_argument("--inventory", default="inventories/lab")
    arguments = parser.parse_args()
    if unknown := set(arguments.parts) - set(parts):
        parser.error(f"there is no {', '.join(sorted(unknown))}; there is {', '.join(parts)}")
    BUILD.mkdir(exist_ok=True)
    results: dict[str, Count] = {}
    steps = [step for step in STEPS if step.part in (arguments.parts or DEFAULT_PARTS)]
    beside = [step for step in steps if step.beside and any(step.part == "molecule" for step in steps)]

    def one(step: Step, log: Path | None = None) -> Count:
        """Run a step, unless what it needs failed. Its count is written down at once: the next one asks for it."""
        if step.needs in results and results[step.needs].failed:
            results[step.name] = Count(failed=1)
            print(f"\n=== {step.name}: left out, because {step.needs} failed", flush=True)
        else:
            results[step.name] = run_aside(step, arguments.inventory, log) if log else run(step, arguments.inventory)
            show_what_to_read(step, results[step.name])
        return results[step.name]

    for step in steps:
        if step.part == "molecule":
            results |= run_scenarios(beside, one)
        elif step not in beside:
            one(step)
    total = sum(results.values(), Count())
    print()
    write_down(results)
    for name, result in results.items():
        print(result.line(name))
    (BUILD / "verdict.txt").write_text(f"{total}\n", encoding="utf-8")
    print(f"\n{total}", flush=True)
    raise SystemExit(1 if total.failed else 0)


if __name__ == "__main__":
    main()
