"""The steps: what each is called, what it runs, and what must have gone well before."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from lab.ci.counts import BUILD
from lab.ci.running import BIN, Step
from lab.machine import REPOSITORY

# These run no service: the tests of topology describe wrong fleets, and those of residency do what nobody declared; only hosts
# of their own will do.
ROLES = sorted({path.name for path in (REPOSITORY / "roles").iterdir()} - {"topology", "residency"})
# The folders of tests that `make verify` asks a fleet.
VERIFIED = [*ROLES, "default"]
KVM_TESTS = ("molecule/kvm/tests", "molecule/shared/tests/test_confinement.py")


def tool(name: str, *arguments: str) -> Callable[[str], list[str]]:
    return lambda inventory: [str(BIN / name), *arguments]


def asked(inventory: str, marked: str, report: Path, *options: str) -> list[str]:
    # Each test file names its hosts in testinfra_hosts; --hosts would overrule them all.
    tests = [f"molecule/{name}/tests" for name in VERIFIED if (REPOSITORY / f"molecule/{name}/tests").is_dir()]
    if Path(inventory).resolve() != REPOSITORY / "inventories/lab":
        marked += " and not disruptive"
    command = [str(BIN / "pytest"), "-q", f"--ansible-inventory={inventory}", "-m", marked, f"--junitxml={report}"]
    return [*command, *options, *tests]


def testinfra(inventory: str) -> list[str]:
    return asked(inventory, "not job and not long and not scenario", BUILD / "junit-verify.xml")


def operations(inventory: str) -> list[str]:
    return asked(inventory, "long", BUILD / "junit-operations.xml")


def real_job(inventory: str) -> list[str]:
    # What the application's own command says is worth reading when all is well, too.
    return asked(inventory, "job", BUILD / "junit-job.xml", "-s")


def guests_tests(inventory: str) -> list[str]:
    return [str(BIN / "pytest"), "-q", f"--ansible-inventory={inventory}", f"--junitxml={BUILD / 'junit-kvm.xml'}", *KVM_TESTS]


def guests_work(inventory: str) -> list[str]:
    # Emulated processors take a minute for what takes a second: each video once.
    figures = str(BUILD / "kvm" / "demo.json")
    return [str(BIN / "python"), "-m", "lab.demo", "--inventory", inventory, "--rounds", "1", "--figures", figures]


def cloud_step(name: str, needs: str) -> Step:
    report = BUILD / f"junit-cloud-{name}.xml"

    def command(inventory: str) -> list[str]:
        file = f"molecule/cloud/tests/test_{name.replace('-', '_')}.py"
        return [str(BIN / "pytest"), "-q", f"--ansible-inventory={inventory}", f"--junitxml={report}", file]

    return Step(f"cloud-{name}", "cloud", command, report, needs=needs)


STEPS = (
    Step("ansible-lint", "lint", tool("ansible-lint", "-q"), beside=True),
    Step("yamllint", "lint", tool("yamllint", "--strict", "."), beside=True),
    Step("ruff", "lint", tool("ruff", "check", "."), beside=True),
    Step("layout", "lint", tool("ruff", "format", "--check", "."), beside=True),
    Step("unit", "unit", tool("pytest", "-q", f"--junitxml={BUILD / 'junit-unit.xml'}"), BUILD / "junit-unit.xml", beside=True),
    # A quarter of the faults that need no host, other ones for each commit; those of the roles are `make mutants`.
    Step("mutants", "mutants", tool("python", "-m", "lab.mutants", "unit", "--share", "4"), beside=True),
    Step("molecule", "molecule", tool("molecule", "test")),
    Step("demo", "demo", lambda inventory: ["make", "--no-print-directory", "demo", f"INVENTORY={inventory}"], beside=True),
    Step("verify", "verify", testinfra, BUILD / "junit-verify.xml", needs="demo", beside=True),
    Step("operations", "operations", operations, BUILD / "junit-operations.xml", needs="demo"),
    Step("a real job", "verify", real_job, BUILD / "junit-job.xml", needs="demo"),
    Step("drill", "drill", lambda inventory: ["make", "--no-print-directory", "drill", "DRILL=--short"]),
    Step("cloud-hosts", "cloud", lambda inventory: ["make", "--no-print-directory", "lab", "secrets", f"INVENTORY={inventory}"]),
    # The first provisions the hosts, the last one kills runs.
    cloud_step("first-run", needs="cloud-hosts"),
    cloud_step("reading", needs="cloud-first-run"),
    cloud_step("cut-off", needs="cloud-first-run"),
    Step("guests", "kvm", lambda inventory: ["make", "--no-print-directory", "kvm", f"INVENTORY={inventory}"]),
    Step("guests-work", "kvm", guests_work, needs="guests"),
    Step("guests-tests", "kvm", guests_tests, BUILD / "junit-kvm.xml", needs="guests-work"),
)
# What takes half an hour runs by name only: `make test-kvm`, `make test-operations`, `make test-cloud`.
DEFAULT_PARTS = tuple(dict.fromkeys(step.part for step in STEPS if step.part not in ("kvm", "operations", "cloud")))
