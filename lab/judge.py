"""Run what passes judgement on the kit, count it, and say at the end what passed and what did not.

Everything runs even if something before it failed, so that one run tells all; only tests of hosts that could not be
provisioned are left out, and count as one failure.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path

from lab.hosts import containers
from lab.machine import REPOSITORY, Refusal, podman

BUILD = REPOSITORY / "build"
BIN = Path(sys.executable).parent
# Role topology runs no service; its tests describe wrong fleets, for which only hosts of their own will do.
ROLES = sorted({path.name for path in (REPOSITORY / "roles").iterdir()} - {"topology"})
# How many scenarios run side by side: each keeps about one core busy.
SIDE_BY_SIDE = 2
KVM_TESTS = "molecule/kvm/tests"

# What to read first when a service does not do what it promised.
LOGS = """
journalctl --no-pager --quiet --priority=warning --lines=20
for log in /var/log/celery/*.log /var/log/rabbitmq/*.log /var/log/postgresql/*.log /var/log/supervisor/supervisord.log; do
  [ ! -s "$log" ] || { echo "-- $log"; tail -n 12 "$log"; }
done
"""


@dataclass(frozen=True)
class Step:
    name: str
    part: str
    command: Callable[[str], list[str]]
    # pytest writes its own count there; a step without one counts as one.
    report: Path | None = None
    needs: str = ""


@dataclass
class Count:
    passed: int = 0
    failed: int = 0
    skipped: int = 0
    seconds: float = field(default=0.0, compare=False)

    def __add__(self, other: Count) -> Count:
        sums = (self.passed + other.passed, self.failed + other.failed, self.skipped + other.skipped)
        return Count(*sums, self.seconds + other.seconds)

    def __str__(self) -> str:
        return f"{self.passed} passed, {self.failed} failed" + (f", {self.skipped} skipped" if self.skipped else "")


def tool(name: str, *arguments: str) -> Callable[[str], list[str]]:
    return lambda inventory: [str(BIN / name), *arguments]


def asked(inventory: str, marked: str, report: Path, *options: str) -> list[str]:
    # Each test file names its hosts in testinfra_hosts; --hosts would overrule them all.
    tests = [f"molecule/{name}/tests" for name in [*ROLES, "default"] if (REPOSITORY / f"molecule/{name}/tests").is_dir()]
    if Path(inventory).resolve() != REPOSITORY / "inventories/lab":
        marked += " and not disruptive"
    command = [str(BIN / "pytest"), "-q", f"--ansible-inventory={inventory}", "-m", marked, f"--junitxml={report}"]
    return [*command, *options, *tests]


def testinfra(inventory: str) -> list[str]:
    return asked(inventory, "not job and not long", BUILD / "junit-verify.xml")


def operations(inventory: str) -> list[str]:
    return asked(inventory, "long", BUILD / "junit-operations.xml")


def real_job(inventory: str) -> list[str]:
    # What the application's own command says is worth reading when all is well, too.
    return asked(inventory, "job", BUILD / "junit-job.xml", "-s")


def scenarios() -> list[str]:
    """Molecule's scenarios, the longest first so that the last one does not run alone for long."""
    longest = ["rabbitmq", "application", "celery_worker", "pgbouncer"]
    names = [path.parent.name for path in (REPOSITORY / "molecule").glob("*/molecule.yml")]
    return sorted(names, key=lambda name: (longest.index(name) if name in longest else len(longest), name))


def guests_tests(inventory: str) -> list[str]:
    return [str(BIN / "pytest"), "-q", f"--ansible-inventory={inventory}", f"--junitxml={BUILD / 'junit-kvm.xml'}", KVM_TESTS]


def guests_work(inventory: str) -> list[str]:
    # Emulated processors take a minute for what takes a second: each video once.
    figures = str(BUILD / "kvm" / "demo.json")
    return [str(BIN / "python"), "-m", "lab.demo", "--inventory", inventory, "--rounds", "1", "--figures", figures]


STEPS = (
    Step("ansible-lint", "lint", tool("ansible-lint", "-q")),
    Step("yamllint", "lint", tool("yamllint", "--strict", ".")),
    Step("ruff", "lint", tool("ruff", "check", ".")),
    Step("layout", "lint", tool("ruff", "format", "--check", ".")),
    Step("unit", "unit", tool("pytest", "-q", f"--junitxml={BUILD / 'junit-unit.xml'}"), BUILD / "junit-unit.xml"),
    Step("molecule", "molecule", tool("molecule", "test")),
    Step("demo", "demo", lambda inventory: ["make", "--no-print-directory", "demo", f"INVENTORY={inventory}"]),
    Step("verify", "verify", testinfra, BUILD / "junit-verify.xml", needs="demo"),
    Step("operations", "operations", operations, BUILD / "junit-operations.xml", needs="demo"),
    Step("a real job", "verify", real_job, BUILD / "junit-job.xml", needs="demo"),
    Step("drill", "drill", lambda inventory: ["make", "--no-print-directory", "drill", "DRILL=--short"]),
    Step("guests", "kvm", lambda inventory: ["make", "--no-print-directory", "kvm", f"INVENTORY={inventory}"]),
    Step("guests-work", "kvm", guests_work, needs="guests"),
    Step("guests-tests", "kvm", guests_tests, BUILD / "junit-kvm.xml", needs="guests-work"),
)
# What takes half an hour of its own is asked for by name: `make test-kvm`, `make test-operations`.
DEFAULT_PARTS = tuple(dict.fromkeys(step.part for step in STEPS if step.part not in ("kvm", "operations")))


def count(returncode: int, report: str | None) -> Count:
    """What a step's end amounts to; a step that failed never counts as passed, whatever its report says."""
    if report is None:
        return Count(failed=int(returncode != 0), passed=int(returncode == 0))
    suites = list(ElementTree.fromstring(report).iter("testsuite"))
    number = {key: sum(int(suite.get(key, 0)) for suite in suites) for key in ("tests", "failures", "errors", "skipped")}
    failed = number["failures"] + number["errors"]
    passed = number["tests"] - failed - number["skipped"]
    if returncode or not number["tests"]:
        failed = max(failed, 1)
    return Count(passed, failed, number["skipped"])


def environment() -> dict[str, str]:
    # The tools call each other by name.
    return {**os.environ, "PATH": f"{BIN}:{os.environ['PATH']}"}


def run(step: Step, inventory: str) -> Count:
    print(f"\n=== {step.name}", flush=True)
    if step.report:
        step.report.unlink(missing_ok=True)
    started = time.monotonic()
    done = subprocess.run(step.command(inventory), cwd=REPOSITORY, env=environment(), stdin=subprocess.DEVNULL, check=False)
    report = step.report.read_text(encoding="utf-8") if step.report and step.report.exists() else None
    result = count(done.returncode, report)
    result.seconds = time.monotonic() - started
    return result


def run_scenario(name: str) -> Count:
    """`molecule test` of one scenario. Its tests count as what they are, and the runs between them as one."""
    verified, log = BUILD / f"molecule/{name}.jsonl", BUILD / f"molecule/{name}.log"
    verified.parent.mkdir(parents=True, exist_ok=True)
    verified.unlink(missing_ok=True)
    started = time.monotonic()
    command = [str(BIN / "molecule"), "test", "--scenario-name", name]
    plain = {"MOLECULE_COMMAND_BORDERS": "0", "NO_COLOR": "1", "ANSIBLE_NOCOLOR": "1"}
    with log.open("w", encoding="utf-8") as file:
        done = subprocess.run(
            command, cwd=REPOSITORY, env=environment() | plain, stdin=subprocess.DEVNULL, stdout=file, stderr=file, check=False
        )
    lines = verified.read_text(encoding="utf-8").splitlines() if verified.exists() else []
    result = sum((Count(**json.loads(line)) for line in lines), Count())
    if done.returncode == 0:
        result.passed += 1
    elif not result.failed:
        result.failed += 1
    result.seconds = time.monotonic() - started
    print(f"  {'FAILED' if result.failed else 'ok':6}  {name:13} {result.seconds:6.1f} s   {result}", flush=True)
    if result.failed:
        print("\n".join(log.read_text(encoding="utf-8").splitlines()[-80:]), flush=True)
    return result


def run_scenarios() -> dict[str, Count]:
    print(f"\n=== molecule, {SIDE_BY_SIDE} scenarios side by side; what each printed is in build/molecule/", flush=True)
    names = scenarios()
    with ThreadPoolExecutor(SIDE_BY_SIDE) as pool:
        return {f"molecule {name}": result for name, result in zip(names, pool.map(run_scenario, names), strict=True)}


def write_down(results: dict[str, Count]) -> None:
    """Keep what ran and how long it took in build/test.json; what this run left out stays there from before."""
    path = BUILD / "test.json"
    known = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    ended = time.strftime("%Y-%m-%dT%H:%M:%S%z")
    new = {name: asdict(result) | {"seconds": round(result.seconds, 1), "ended": ended} for name, result in results.items()}
    path.write_text(json.dumps(known | new, indent=2) + "\n", encoding="utf-8")


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
    for step in STEPS:
        if step.part not in (arguments.parts or DEFAULT_PARTS):
            continue
        if step.needs in results and results[step.needs].failed:
            results[step.name] = Count(failed=1)
            print(f"\n=== {step.name}: left out, because {step.needs} failed", flush=True)
            continue
        if step.part == "molecule":
            results |= run_scenarios()
            continue
        results[step.name] = run(step, arguments.inventory)
        if step.part == "kvm" and results[step.name].failed:
            show_consoles()
        if step.part in ("demo", "verify", "drill") and results[step.name].failed:
            show_logs()
    total = sum(results.values(), Count())
    print()
    write_down(results)
    for name, result in results.items():
        print(f"  {'FAILED' if result.failed else 'ok':6}  {name:22} {result.seconds:6.1f} s   {result}")
    (BUILD / "verdict.txt").write_text(f"{total}\n", encoding="utf-8")
    print(f"\n{total}", flush=True)
    raise SystemExit(1 if total.failed else 0)


if __name__ == "__main__":
    main()
