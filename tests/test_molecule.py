"""Every role has a scenario on both systems, and no scenario passes without tests."""

import re
import sys
from pathlib import Path
from subprocess import run

import pytest
import yaml
from ansible.inventory.manager import InventoryManager
from ansible.parsing.dataloader import DataLoader

from lab.ci import scenarios, steps
from lab.mutants import faults

ROOT = Path(__file__).parent.parent
MOLECULE = ROOT / "molecule"
ROLES = sorted(path.name for path in (ROOT / "roles").iterdir())
SCENARIOS = sorted(path.parent.name for path in MOLECULE.glob("*/molecule.yml"))


# Further scenarios of a role, whose tests change and remove what a common edit cannot.
SECOND = {"pgbackrest_cluster", "rabbitmq_cluster"}


def hosts(scenario: str) -> dict:
    return yaml.safe_load((MOLECULE / scenario / "inventory/hosts.yml").read_text())["all"]


def groups(scenario: str) -> set[str]:
    return {"all", *(hosts(scenario).get("children") or {})}


def test_every_role_has_a_scenario_and_every_scenario_a_role():
    assert sorted(set(SCENARIOS) - SECOND) == ROLES
    assert all(name.rpartition("_")[0] in ROLES for name in SECOND)


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_a_scenario_runs_on_both_systems(scenario):
    """The hosts of one cluster have one release: where none names it, LAB_RELEASE gives all the same (lay_out.py)."""
    releases = [entry.get("lab_release") for entry in hosts(scenario)["hosts"].values()]
    assert {release or "13" for release in releases} == {"12", "13"} or (
        scenario in (*scenarios.ONE_PAIR, *scenarios.CLUSTERS) and not any(releases)
    )


def laid_out(scenario: str, release: str, home: Path) -> dict:
    """The scenario's hosts as Molecule gets them, for one release of Debian."""
    run(
        [sys.executable, MOLECULE / "shared/lay_out.py", MOLECULE / scenario, home, home],
        env={"LAB_RELEASE": release},
        check=True,
    )
    return yaml.safe_load((home / "hosts.yml").read_text())["all"]


@pytest.mark.parametrize("release", ["12", "13"])
@pytest.mark.parametrize("scenario", SCENARIOS)
def test_a_scenario_on_one_release_keeps_every_group(scenario, release, tmp_path):
    fleet = laid_out(scenario, release, tmp_path / "fleet")
    assert {host.get("lab_release", "13") for host in fleet["hosts"].values()} == {release}
    for name, group in (hosts(scenario).get("children") or {}).items():
        members = set(group.get("hosts") or {})
        assert set(fleet["children"][name].get("hosts") or {}) == (
            members & set(fleet["hosts"]) or (members and set(fleet["hosts"]))
        )


@pytest.mark.parametrize(
    "scenario", sorted(set(SCENARIOS) - {*scenarios.BOTH_RELEASES, *scenarios.ONE_PAIR, *scenarios.CLUSTERS})
)
def test_what_a_scenario_leaves_out_in_ci_is_verified_on_the_lab(scenario):
    topology = yaml.safe_load((ROOT / "inventories/lab/group_vars/all/topology.yml").read_text())
    carriers = topology["topology_roles"][scenario]
    lab = InventoryManager(DataLoader(), str(ROOT / "inventories/lab/hosts.yml"))
    hosts = lab.get_hosts(carriers if isinstance(carriers, str) else ":".join(carriers))
    releases = {{**lab.groups["all"].get_vars(), **host.get_vars()}["lab_release"] for host in hosts}
    assert releases - {scenarios.NOT_IN_THE_LAB} and scenario in steps.VERIFIED


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_a_scenario_has_at_least_three_tests(scenario):
    tests = "".join(path.read_text() for path in (MOLECULE / scenario / "tests").glob("test_*.py"))
    assert len(re.findall(r"^def test_", tests, re.MULTILINE)) >= 3


def roles(scenario: str) -> set[str]:
    """The roles that some group of the scenario carries."""
    file = MOLECULE / scenario / "inventory/group_vars/all/topology.yml"
    return set(yaml.safe_load(file.read_text())["topology_roles"]) if file.exists() else set()


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_the_tests_of_a_scenario_find_their_hosts(scenario):
    for path in (MOLECULE / scenario / "tests").glob("test_*.py"):
        for line in re.findall(r"^testinfra_hosts = .*$", path.read_text(), re.MULTILINE):
            named = re.findall(r'"ansible://(\w+)"', line)
            assert named and set(named) & (groups(scenario) | roles(scenario)), f"{path.name}: {line}"


@pytest.mark.parametrize("scenario", sorted(set(SCENARIOS) - {"topology", "residency", *SECOND}))  # which change no host
def test_a_scenario_has_a_change_and_a_removal(scenario):
    for edit in ("change", "removal"):
        assert list((MOLECULE / scenario / edit).rglob("*.yml")), f"molecule/{scenario}/{edit} edits nothing"


def test_no_two_scenarios_share_an_address():
    addresses = [entry["ansible_host"] for scenario in SCENARIOS for entry in hosts(scenario)["hosts"].values()]
    assert len(addresses) == len(set(addresses))


def test_the_tests_of_every_scenario_also_run_on_a_live_fleet():
    command = steps.testinfra("inventories/lab")
    assert {f"molecule/{scenario}/tests" for scenario in steps.ROLES} <= set(command)


def test_every_role_has_mutants():
    assert faults.roles() == [faults.UNIT, *ROLES]


@pytest.mark.parametrize("role", faults.roles())
def test_each_mutant_still_fits_and_its_test_exists(role):
    known = faults.faults_of(role)
    assert len(known) >= 3 and len({fault.fault for fault in known}) == len(known)
    for fault in known:
        text = (ROOT / fault.file).read_text()
        assert faults.mutate(text, fault) != text and faults.node(role, fault)


def test_no_two_test_files_share_a_name():
    """`make verify` collects every role's tests in one session, where a second file of a name is an error."""
    names = [path.name for path in ROOT.glob("molecule/*/tests/*.py") if path.name != "conftest.py"]
    assert sorted(names) == sorted(set(names))
