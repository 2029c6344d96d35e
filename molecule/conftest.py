"""What the tests of every role share: the inventory's inputs, and a service's last log lines when a test fails."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import testinfra
from ansible_collections.grunnfjell.platform.plugins.plugin_utils.fleet.services import services
from authority import REPOSITORY, Authority, of_inventory, unknown_authority
from host_services import log_commands, services_of
from playbook_runner import PlaybookRun, play
from run_records import Run, read
from sudo import use_password
from testinfra.host import Host
from testinfra.utils.ansible_runner import AnsibleRunner

# A playbook that a test runs is not a run of the scenario: do not record it.
os.environ.pop("ANSIBLE_CALLBACKS_ENABLED", None)
use_password()
# Molecule asks for colours, which would hide the sentences that tests look for.
os.environ["ANSIBLE_FORCE_COLOR"] = "0"


@pytest.fixture(scope="session")
def inventory(request) -> str:
    return request.config.option.ansible_inventory


@pytest.fixture(scope="session")
def fleet_inputs(inventory, tmp_path_factory) -> dict[str, dict[str, Any]]:
    """Every role input of every host, as a run would find it: {host: {input: value}}."""
    file = tmp_path_factory.mktemp("inputs") / "inputs.json"
    run = play(inventory, "molecule/shared/inputs.yml", "-e", f"inputs_file={file}")
    assert run.returncode == 0, run.output
    return json.loads(file.read_text(encoding="utf-8"))


@pytest.fixture(scope="session")
def fleet(inventory, fleet_inputs) -> dict[str, Host]:
    """Every host of the inventory, for a test of what a run does to all of them."""
    return {name: testinfra.get_host(f"ansible://{name}", ansible_inventory=inventory) for name in fleet_inputs}


@pytest.fixture(scope="module")
def hostname(host) -> str:
    """The name of the host under test in the inventory."""
    return host.backend.get_hostname()


@pytest.fixture(scope="module")
def inputs(hostname, fleet_inputs) -> dict[str, Any]:
    """The role inputs of the host under test."""
    return fleet_inputs[hostname]


@pytest.fixture
def converge(inventory, hostname) -> Callable[..., PlaybookRun]:
    """Run a playbook on the host under test alone. Inputs override the inventory's."""

    def run(playbook: str, *arguments: str, **overrides: Any) -> PlaybookRun:
        return play(inventory, playbook, "--limit", hostname, *arguments, variables=overrides or None)

    return run


@pytest.fixture(scope="session")
def authority(inventory, tmp_path_factory) -> Authority:
    """The authority of the fleet's certificates, with the key that only the inventory's vault holds."""
    return of_inventory(Path(inventory), tmp_path_factory.mktemp("authority"))


@pytest.fixture(params=["no certificate", "unknown authority", "expired"])
def invalid_identity(request, authority, tmp_path) -> tuple[str, str] | None:
    """The certificate and key of a client that every service of the fleet must refuse."""
    if request.param == "no certificate":
        return None
    if request.param == "expired":
        return authority.issue("late", days=1, ago_days=3)
    return unknown_authority(tmp_path / "unknown").issue("client")


@pytest.fixture(scope="session")
def runs() -> list[Run]:
    return read()


@pytest.hookimpl(tryfirst=True)
def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Replace the role that a test file names by the hosts that carry it, according to the inventory's topology_roles."""
    patterns = getattr(metafunc.module, "testinfra_hosts", [])
    inventory = metafunc.config.option.ansible_inventory
    if inventory and "_testinfra_host" in metafunc.fixturenames:
        metafunc.module.testinfra_hosts = [group for pattern in patterns for group in carrying(pattern, inventory)]


@pytest.hookimpl(tryfirst=True)
def pytest_pycollect_makeitem(collector: pytest.Collector) -> list[pytest.Item] | None:
    """Leave out the tests of a role that no host of the fleet carries."""
    module, inventory = collector.getparent(pytest.Module), collector.config.option.ansible_inventory
    patterns = getattr(module.obj if module else None, "testinfra_hosts", [])
    return [] if inventory and patterns and not any(carrying(pattern, inventory) for pattern in patterns) else None


@cache  # pytest asks for each name in a module
def carrying(pattern: str, inventory: str) -> list[str]:
    """testinfra's patterns for the groups that carry a role. Any other pattern names a group or a host and stays as it is."""
    runner = AnsibleRunner.get_runner(inventory)
    hosts = runner.get_hosts("all")
    table = runner.get_variables(hosts[0]).get("topology_roles", {}) if hosts else {}
    role = pattern.removeprefix("ansible://")
    groups = table.get(role)
    if groups is None and table and role in services() and role not in runner.inventory:
        return []
    return [pattern] if groups is None else [f"ansible://{group}" for group in ([groups] if isinstance(groups, str) else groups)]


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what does not apply to a host, and after an edit of a scenario's inventory what the edit cannot change."""
    edited = len(read()) > 3
    left_out = [item for item in items if (edited and item.get_closest_marker("once")) or not applies(item)]
    config.hook.pytest_deselected(items=left_out)
    items[:] = [item for item in items if item not in left_out]


def applies(item: pytest.Item) -> bool:
    # A scenario has the hosts of one role, and no worker for a real job.
    if item.get_closest_marker("job" if os.environ.get("MOLECULE_SCENARIO_NAME") else "scenario"):
        return False
    host = item.callspec.params.get("_testinfra_host") if hasattr(item, "callspec") else None
    if host is None:
        return True
    runner, name = host.backend.ansible_runner, host.backend.get_hostname()
    if item.get_closest_marker("one_host") and name != min(runner.get_hosts()):
        return False
    variables = runner.get_variables(name)
    return all(marker.args[0](variables) for marker in item.iter_markers("only_on"))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo) -> Iterator[None]:
    """Add the last log lines of the host's services to the report of a failed test."""
    report = yield
    host = getattr(item, "funcargs", {}).get("host")
    runner = getattr(getattr(host, "backend", None), "ansible_runner", None)
    if report.failed and runner is not None:
        for service in services_of(runner.get_variables(host.backend.get_hostname())):
            for command in log_commands(service):
                # A log may quote bytes that are no text.
                lines = host.run(f"{command} 2>/dev/null").stdout_bytes.decode(errors="replace")
                report.sections.append((f"{service.role}: {command}", lines))
    return report


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Write down how many tests each verify of a scenario ran, for the sum over all of them."""
    scenario = os.environ.get("MOLECULE_SCENARIO_NAME")
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if scenario is None or reporter is None:
        return
    number = {key: len(reporter.stats.get(key, [])) for key in ("passed", "failed", "error", "skipped")}
    counts = {"passed": number["passed"], "failed": number["failed"] + number["error"], "skipped": number["skipped"]}
    file = REPOSITORY / "build" / "molecule" / f"{scenario}.jsonl"
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("a", encoding="utf-8") as lines:
        lines.write(json.dumps(counts) + "\n")
