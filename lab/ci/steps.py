"""The steps of CI: what each runs, and which step must have passed before."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from lab.ci.runner import Step
from lab.machine import BIN, BUILD, REPOSITORY

# Without two roles whose tests need hosts made for them: topology's describe wrong fleets, residency's undeclared data.
ROLES = sorted({path.name for path in (REPOSITORY / "roles").iterdir()} - {"topology", "residency"})
# The scenarios whose tests `make verify` runs against a fleet.
VERIFIED = [*ROLES, "default"]


def tool(name: str, *arguments: str) -> Callable[[str], list[str]]:
    return lambda inventory: [str(BIN / name), *arguments]


def make(*arguments: str) -> list[str]:
    return ["make", "--no-print-directory", *arguments]


def report(name: str) -> Path:
    return BUILD / f"junit-{name}.xml"


def pytest(inventory: str, name: str, *arguments: str) -> list[str]:
    return [str(BIN / "pytest"), "-q", f"--ansible-inventory={inventory}", f"--junitxml={report(name)}", *arguments]


def fleet_tests(inventory: str, name: str, marked: str, *options: str) -> list[str]:
    # Each test file names its hosts in testinfra_hosts; --hosts would override them all.
    tests = [f"molecule/{role}/tests" for role in VERIFIED if (REPOSITORY / f"molecule/{role}/tests").is_dir()]
    if Path(inventory).resolve() != REPOSITORY / "inventories/lab":
        marked += " and not disruptive"
    return pytest(inventory, name, "-m", marked, *options, *tests)


def testinfra(inventory: str) -> list[str]:
    return fleet_tests(inventory, "verify", "not job and not long and not scenario")


def operations(inventory: str) -> list[str]:
    return fleet_tests(inventory, "operations", "long")


def real_job(inventory: str) -> list[str]:
    # -s: the output of the application's command is worth reading after a success too.
    return fleet_tests(inventory, "job", "job", "-s")


def guests_work(inventory: str) -> list[str]:
    # Emulated processors take a minute for a second of work: send each video once.
    figures = str(BUILD / "kvm" / "demo.json")
    return [str(BIN / "python"), "-m", "lab.demo", "--inventory", inventory, "--rounds", "1", "--figures", figures]


def kvm_tests(inventory: str) -> list[str]:
    return pytest(inventory, "kvm", "molecule/kvm/tests", "molecule/shared/tests/test_confinement.py")


def cloud_step(name: str, needs: str) -> Step:
    file = f"molecule/cloud/tests/test_{name.replace('-', '_')}.py"
    return Step(
        f"cloud-{name}", "cloud", lambda inventory: pytest(inventory, f"cloud-{name}", file), report(f"cloud-{name}"), needs
    )


STEPS = (
    Step("ansible-lint", "lint", tool("ansible-lint", "-q"), lane="checkout"),
    Step("yamllint", "lint", tool("yamllint", "--strict", "."), lane="checkout"),
    Step("ruff", "lint", tool("ruff", "check", "."), lane="checkout"),
    Step("layout", "lint", tool("ruff", "format", "--check", "."), lane="checkout"),
    Step("unit", "unit", tool("pytest", "-q", f"--junitxml={report('unit')}"), report("unit"), lane="checkout"),
    # An eighth of the faults that need no host, different ones for each commit; `make mutants` tries those of the roles.
    Step("mutants", "mutants", tool("python", "-m", "lab.mutants", "unit", "--share", "8"), lane="checkout"),
    # The drill itself needs quiet.
    Step("drill-hosts", "drill", lambda inventory: make("lab", "converge", "INVENTORY=inventories/drill"), lane="checkout"),
    Step("molecule", "molecule", tool("molecule", "test")),
    Step("demo", "demo", lambda inventory: make("demo", f"INVENTORY={inventory}"), lane="lab"),
    Step("verify", "verify", testinfra, report("verify"), needs="demo", lane="lab"),
    Step("operations", "operations", operations, report("operations"), needs="demo"),
    Step("a real job", "verify", real_job, report("job"), needs="demo"),
    Step("drill", "drill", lambda inventory: make("drill", "DRILL=--short --no-converge"), needs="drill-hosts"),
    Step("cloud-hosts", "cloud", lambda inventory: make("lab", "secrets", f"INVENTORY={inventory}")),
    # The first provisions the hosts, the last one kills runs.
    cloud_step("first-run", needs="cloud-hosts"),
    cloud_step("reading", needs="cloud-first-run"),
    cloud_step("cut-off", needs="cloud-first-run"),
    Step("clusters", "clusters", tool("molecule", "test")),
    Step("guests", "kvm", lambda inventory: make("kvm", f"INVENTORY={inventory}")),
    Step("guests-work", "kvm", guests_work, needs="guests"),
    Step("guests-tests", "kvm", kvm_tests, report("kvm"), needs="guests-work"),
)
# These take half an hour or more, and run only by name, as in `make test-kvm`.
BY_NAME = ("kvm", "operations", "cloud", "clusters")
DEFAULT_PARTS = tuple(dict.fromkeys(step.part for step in STEPS if step.part not in BY_NAME))
