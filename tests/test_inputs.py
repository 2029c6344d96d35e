"""Every input of a role is asked somewhere: another value than its default reaches what it is for."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import test_templates
import yaml
from test_contract import ROLES, options

ROOT = Path(__file__).resolve().parents[1]
TABLE = yaml.safe_load((ROOT / "tests/input_values.yml").read_text(encoding="utf-8"))
CASES = {
    name: (role, place, case) for role, places in TABLE.items() for place, cases in places.items() for name, case in cases.items()
}
# An application whose database is elsewhere: only then its service file names certificates.
COMPANIONS = {"application_database_host": "192.0.2.9"}
# Inputs that neither a test nor a scenario names, and why.
UNNAMED: dict[str, str] = {}
FILES = {
    path: path.read_text(encoding="utf-8")
    for home in ("tests", "molecule", "lab")
    for path in (ROOT / home).rglob("*")
    if path.suffix in (".py", ".yml", ".j2") and path != Path(__file__)
}


def expression(role: str, place: str) -> str:
    """What the role evaluates there."""
    if place.startswith("__"):
        return place
    file, _, argument = place.partition(": ")
    for task in yaml.safe_load((ROOT / "roles" / role / file).read_text(encoding="utf-8")):
        for arguments in task.values():
            if isinstance(arguments, dict) and argument in arguments:
                return arguments[argument].strip("{ }")
    raise KeyError(place)


@pytest.fixture(scope="module")
def rendered(tmp_path_factory: pytest.TempPathFactory) -> dict[bool, dict[tuple[str, str], str]]:
    """Alone or not: role and place to its text."""
    homes, runs = {}, {}
    with pytest.MonkeyPatch.context() as patch:
        for alone in (True, False):
            homes[alone] = tmp_path_factory.mktemp("values-")
            for role, places in ({} if alone else TABLE).items():
                more = {place: expression(role, place) for place in places if not place.startswith("/")}
                patch.setitem(test_templates.RENDERINGS, role, test_templates.RENDERINGS[role] | more)
            runs[alone] = test_templates.start(homes[alone], "13", "-e", json.dumps(values(alone)))
        for run in runs.values():
            printed, _ = run.communicate()
            assert run.returncode == 0, printed
        return {alone: dict(texts(home)) for alone, home in homes.items()}


def values(alone: bool) -> dict[str, Any]:
    return COMPANIONS | {name: case["value"] for name, (_, _, case) in CASES.items() if case.get("alone", False) == alone}


def texts(home: Path) -> Iterator[tuple[tuple[str, str], str]]:
    for cached in (home / "facts").iterdir():
        facts = json.loads(json.loads(cached.read_text())["__payload__"])
        for role, places in test_templates.RENDERINGS.items():
            for path in places:
                if (value := facts.get(test_templates.fact_of(role, path))) is not None:
                    place = test_templates.target(path) if path.endswith(".j2") else path
                    value = plain(value)
                    yield (role, place), value if isinstance(value, str) else json.dumps(value)


def plain(value: Any) -> Any:
    """The cache's value without Ansible's tags."""
    if isinstance(value, dict) and "__ansible_type" in value:
        value = value["value"]
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    return [plain(item) for item in value] if isinstance(value, list) else value


@pytest.mark.parametrize("name", CASES)
def test_a_value_that_is_no_default_reaches_what_the_input_is_for(rendered, name: str) -> None:
    role, place, case = CASES[name]
    text = rendered[case.get("alone", False)][role, place]
    assert options(role)[name].get("default") != case["value"]
    assert case["line"] in text, text


def named(name: str) -> bool:
    return any(re.search(rf"(?<!\w){name}(?!\w)", text) for text in FILES.values())


def test_every_input_is_named_by_a_test_or_a_scenario() -> None:
    """The example inventory does not count: nothing is asked about it."""
    silent = {name for role in ROLES for name in options(role) if not named(name)}
    assert silent - set(UNNAMED) == set(), "ask them in a test, or in tests/input_values.yml"
    assert set(UNNAMED) - silent == set(), "these are named now: take them out of UNNAMED"


def test_a_name_that_is_only_part_of_another_one_is_not_named() -> None:
    assert named("pgbouncer_pools") and not named("pgbouncer_pool")
