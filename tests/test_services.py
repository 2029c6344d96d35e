"""The declarations in meta/service.yml of the roles are complete, and name inputs that exist."""

import doctest
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.grunnfjell.platform.plugins.filter.filters import FilterModule
from ansible_collections.grunnfjell.platform.plugins.plugin_utils.fleet import services as module
from ansible_collections.grunnfjell.platform.plugins.plugin_utils.fleet.services import (
    ServiceError,
    declared,
    parse,
    played,
    services,
)
from ansible_collections.grunnfjell.platform.plugins.plugin_utils.sizing import pgbouncer

ROOT = Path(__file__).resolve().parents[1]
ROLES = sorted(path.name for path in (ROOT / "roles").iterdir() if (path / "tasks").is_dir())


def options() -> dict[str, Any]:
    specs = [yaml.safe_load(path.read_text()) for path in (ROOT / "roles").glob("*/meta/argument_specs.yml")]
    return {name: option for spec in specs for name, option in spec["argument_specs"]["main"]["options"].items()}


def keys(option: dict[str, Any]) -> set[str]:
    """The keys of an entry of an input that is a list of mappings, those of inner mappings with a dot."""
    own = option.get("options", {})
    return set(own) | {f"{name}.{key}" for name, inner in own.items() for key in keys(inner)}


def test_every_role_declares_its_service() -> None:
    assert sorted(services()) == ROLES


@pytest.mark.parametrize("role", ROLES)
def test_a_service_names_inputs_that_exist(role: str) -> None:
    service = services()[role]
    named = {name for wanted in service.status.values() for name in wanted.values()}
    for entry in (*service.listens, *service.dials):
        names = {value for key, value in vars(entry).items() if key in ("endpoints", "addresses", "hosts", "port") and value}
        known = keys(options()[entry.each]) if entry.each else set(options())
        assert names <= known
        named |= {name for name in (entry.each, getattr(entry, "databases", "")) if name}
    assert named <= set(options())


@pytest.mark.parametrize("role", ROLES)
def test_a_service_connects_only_to_services_that_listen(role: str) -> None:
    assert all(services()[name].listens for entry in services()[role].dials for name in entry.services)


def test_a_service_comes_after_those_that_it_names() -> None:
    order = list(services())
    assert all(order.index(before) < order.index(role) for role, service in services().items() for before in service.after)


@pytest.mark.parametrize(
    ("declaration", "sentence"),
    [
        ({"listen": []}, "unexpected keyword argument 'listen'"),
        ({"listens": [{"purpose": "x", "adresses": "y"}]}, "unexpected keyword argument 'adresses'"),
        ({"listens": [{"endpoints": "x"}]}, "missing 1 required positional argument: 'purpose'"),
    ],
)
def test_an_unknown_key_is_refused_by_its_name(declaration: dict, sentence: str) -> None:
    with pytest.raises(ServiceError, match=sentence):
        parse("etcd", declaration)


def test_a_service_after_one_that_does_not_exist_is_refused(tmp_path: Path, write) -> None:
    write("patroni/meta/service.yml", "after: [etcd]\n")
    with pytest.raises(ServiceError, match="names etcd"):
        services(tmp_path)


def test_a_new_role_needs_only_its_folder(tmp_path: Path, write) -> None:
    write("etcd/meta/service.yml", "units: [etcd.service]\npackages: [etcd-server]\n")
    write("patroni/meta/service.yml", "after: [etcd]\nunits: [patroni.service]\n")
    assert list(services(tmp_path)) == ["etcd", "patroni"]
    assert declared("units", tmp_path) == ["etcd.service", "patroni.service"]


@pytest.mark.parametrize(
    ("own", "arguments", "expected"),
    [
        (["rabbitmq", "pki", "host", "producer"], {}, ["host", "pki", "rabbitmq"]),
        (["rabbitmq", "pki", "host"], {"alone": "rabbitmq"}, ["pki", "rabbitmq"]),
        (["postgresql", "pki", "host"], {"alone": "rabbitmq"}, []),
        (["rabbitmq", "pki", "host"], {"tags": ["rabbitmq"]}, ["pki", "rabbitmq"]),
        (["postgresql", "pki", "host"], {"tags": ["rabbitmq"]}, []),
        (["rabbitmq", "pki", "host"], {"skipped": ["host"]}, ["pki", "rabbitmq"]),
        (["celery_worker", "pki"], {"alone": "celery_worker"}, ["celery_worker"]),
    ],
)
def test_a_host_plays_its_services_in_order(own: list[str], arguments: dict, expected: list[str]) -> None:
    assert played(own, **arguments) == expected


def test_the_examples_in_the_documentation_hold() -> None:
    assert doctest.testmod(module).failed == 0


def test_the_filters_also_load_by_their_short_names() -> None:
    """Until 2.0: inventories from before 1.0 use them, and Ansible then loads the file outside its package."""
    relative = [line for line in (ROOT / "plugins/filter/filters.py").read_text().splitlines() if line.startswith("from .")]
    assert relative == []


def test_a_role_s_filters_are_the_functions_of_its_arithmetic() -> None:
    assert FilterModule().filters()["pgbouncer_settings"] is pgbouncer.pgbouncer_settings
    assert "pgbouncer" not in (ROOT / "plugins/filter/filters.py").read_text()


def test_a_playbook_begins_with_hosts_that_need_no_hostvars() -> None:
    """Ansible has no hostvars before the first play, so a pattern over roles would match no host."""
    first = {path.name: (yaml.safe_load(path.read_text()) or [{}])[0] for path in (ROOT / "playbooks").glob("*.yml")}
    with_hostvars = [name for name, play in first.items() if "hostvars" in str(play.get("hosts", ""))]
    # Parts of other playbooks.
    moves = {"move_database_over.yml", "move_database_rehearse.yml"}
    restores = {"restore_in_place.yml", "restore_refuse.yml"}
    assert set(with_hostvars) <= {*moves, *restores, "rotation_check_retired.yml", "update_hosts.yml"}
