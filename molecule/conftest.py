"""What the tests of every role share: what the inventory promises, and what a service said last when a promise is broken."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import testinfra
from ansible_collections.grunnfjell.platform.plugins.plugin_utils.fleet.services import services
from authority import REPOSITORY, Authority, of_inventory
from host_services import log_commands, services_of
from playing import play
from recorded import Run, read
from sudo import use_password
from testinfra.host import Host
from testinfra.utils.ansible_runner import AnsibleRunner

# What a test runs is no run of the scenario, and not recorded as one.
os.environ.pop("ANSIBLE_CALLBACKS_ENABLED", None)
use_password()
# Nor is it read by a person: Molecule wants its colours.
os.environ["ANSIBLE_FORCE_COLOR"] = "0"


@pytest.fixture(scope="session")
def fleet_inputs(request, tmp_path_factory) -> dict[str, dict[str, Any]]:
    """Every role input of every host, as a run would find it: {host: {input: value}}."""
    file = tmp_path_factory.mktemp("inputs") / "inputs.json"
    inventory = request.config.option.ansible_inventory
    done = play(inventory, "molecule/shared/inputs.yml", "-e", f"inputs_file={file}")
    assert done.returncode == 0, done.printed
    return json.loads(file.read_text(encoding="utf-8"))


@pytest.fixture(scope="session")
def inventory(request) -> str:
    return request.config.option.ansible_inventory


@pytest.fixture(scope="session")
def fleet(inventory, fleet_inputs) -> dict[str, Host]:
    """Every host of the inventory, for a test of what a run does to all of them."""
    return {name: testinfra.get_host(f"ansible://{name}", ansible_inventory=inventory) for name in fleet_inputs}


@pytest.fixture(scope="module")
def inputs(host, fleet_inputs) -> dict[str, Any]:
    """The role inputs of the host under test."""
    return fleet_inputs[host.backend.get_hostname()]


@pytest.fixture(scope="session")
def authority(request, tmp_path_factory) -> Authority:
    """Who issues the fleet's certificates, with the key that only the inventory's vault holds."""
    return of_inventory(Path(request.config.option.ansible_inventory), tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="session")
def runs() -> list[Run]:
    return read()


@pytest.hookimpl(tryfirst=True)
def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """A test file names the role whose hosts it asks; the inventory's topology_roles says which groups carry it."""
    patterns = getattr(metafunc.module, "testinfra_hosts", [])
    inventory = metafunc.config.option.ansible_inventory
    if inventory and "_testinfra_host" in metafunc.fixturenames:
        metafunc.module.testinfra_hosts = [place for pattern in patterns for place in carrying(pattern, inventory)]


@pytest.hookimpl(tryfirst=True)
def pytest_pycollect_makeitem(collector: pytest.Collector) -> list[pytest.Item] | None:
    """A fleet is not asked what a role promises that it does not carry."""
    module, inventory = collector.getparent(pytest.Module), collector.config.option.ansible_inventory
    patterns = getattr(module.obj if module else None, "testinfra_hosts", [])
    return [] if inventory and patterns and not any(carrying(pattern, inventory) for pattern in patterns) else None


def carrying(pattern: str, inventory: str) -> list[str]:
    """The patterns for testinfra of the groups that carry a role; what names no role is a group or a host itself."""
    runner = AnsibleRunner.get_runner(inventory)
    hosts = runner.get_hosts("all")
    table = runner.get_variables(hosts[0]).get("topology_roles", {}) if hosts else {}
    role = pattern.removeprefix("ansible://")
    groups = table.get(role)
    if groups is None and table and role in services() and role not in runner.inventory:
        return []
    return [pattern] if groups is None else [f"ansible://{group}" for group in ([groups] if isinstance(groups, str) else groups)]


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what does not apply: here, to this host, or again after an edit of a scenario's inventory."""
    edited = len(read()) > 3
    left_out = [item for item in items if (edited and item.get_closest_marker("once")) or not applies(item)]
    config.hook.pytest_deselected(items=left_out)
    items[:] = [item for item in items if item not in left_out]


def applies(item: pytest.Item) -> bool:
    if item.get_closest_marker("scenario") and not os.environ.get("MOLECULE_SCENARIO_NAME"):
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
    """A failed test prints the end of the logs of its host's services."""
    report = yield
    host = getattr(item, "funcargs", {}).get("host")
    runner = getattr(getattr(host, "backend", None), "ansible_runner", None)
    if report.failed and runner is not None:
        for service in services_of(runner.get_variables(host.backend.get_hostname())):
            for command in log_commands(service):
                report.sections.append((f"{service.role}: {command}", host.run(f"{command} 2>/dev/null").stdout))
    return report


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Count what each verify of a scenario asked, for the sum over all of them."""
    scenario = os.environ.get("MOLECULE_SCENARIO_NAME")
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if scenario is None or reporter is None:
        return
    number = {key: len(reporter.stats.get(key, [])) for key in ("passed", "failed", "error", "skipped")}
    counted = {"passed": number["passed"], "failed": number["failed"] + number["error"], "skipped": number["skipped"]}
    file = REPOSITORY / "build" / "molecule" / f"{scenario}.jsonl"
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("a", encoding="utf-8") as lines:
        lines.write(json.dumps(counted) + "\n")
