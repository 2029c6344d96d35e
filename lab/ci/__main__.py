"""Run and count all checks and tests of the kit, and print at the end what passed and what failed.

A failure does not stop the others. Only tests of hosts that could not be provisioned are skipped, and count as one failure.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from lab.ci.counts import Count, record
from lab.ci.runner import Step, run
from lab.ci.scenarios import run_clusters, run_scenarios
from lab.ci.steps import DEFAULT_PARTS, STEPS
from lab.containers import containers
from lab.machine import BUILD, Refusal, podman

# What to read first when a service breaks its promise.
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


def show_causes(part: str) -> None:
    if part == "kvm":
        show_consoles()
    elif part in ("demo", "verify", "operations", "drill"):
        show_logs()


def main() -> None:
    parts = sorted({step.part for step in STEPS})
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"{', '.join(parts)}; default: {', '.join(DEFAULT_PARTS)}")
    parser.add_argument("--inventory", default="inventories/lab")
    arguments = parser.parse_args()
    if unknown := set(arguments.parts) - set(parts):
        parser.error(f"unknown: {', '.join(sorted(unknown))}; choose from {', '.join(parts)}")
    BUILD.mkdir(exist_ok=True)
    results: dict[str, Count] = {}
    steps = [step for step in STEPS if step.part in (arguments.parts or DEFAULT_PARTS)]
    lanes: dict[str, list[Step]] = {}
    for step in steps:
        if step.lane and any(step.part == "molecule" for step in steps):
            lanes.setdefault(step.lane, []).append(step)

    def run_step(step: Step, log: Path | None = None) -> Count:
        """Run a step unless the step that it needs failed."""
        if step.needs in results and results[step.needs].failed:
            results[step.name] = Count(failed=1)
            print(f"\n=== {step.name}: skipped, because {step.needs} failed", flush=True)
        else:
            results[step.name] = run(step, arguments.inventory, log)
            if results[step.name].failed:
                show_causes(step.part)
        return results[step.name]

    for step in steps:
        if step.part == "molecule":
            results |= run_scenarios(list(lanes.values()), run_step)
        elif step.part == "clusters":
            results |= run_clusters()
        elif step.lane not in lanes:
            run_step(step)
    total = sum(results.values(), Count())
    print()
    record(results)
    for name, result in results.items():
        print(result.line(name))
    (BUILD / "verdict.txt").write_text(f"{total}\n", encoding="utf-8")
    print(f"\n{total}", flush=True)
    raise SystemExit(1 if total.failed else 0)


if __name__ == "__main__":
    main()
