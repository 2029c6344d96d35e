"""The generated pages say what the code says, and each promise names the command that asks for it."""

import doctest

import pytest

from lab import promises, readmes
from lab.machine import REPOSITORY

STALE = "is out of date: make docs"


@pytest.mark.parametrize("role", readmes.ROLES)
def test_the_readme_of_a_role_is_up_to_date(role: str) -> None:
    path = REPOSITORY / "roles" / role / "README.md"
    assert path.read_text(encoding="utf-8") == readmes.readme(role), f"roles/{role}/README.md {STALE}"


def test_every_scenario_makes_a_promise_and_each_is_asked_by_a_command() -> None:
    kept = promises.scenarios(REPOSITORY)
    homes = {path.parents[1].name for path in REPOSITORY.glob("molecule/*/tests/*.py")}
    assert homes and all(kept[home] for home in homes)
    assert [promise for some in kept.values() for promise in some if not promise.asked] == []


def test_make_promises_lists_one_role_or_all_and_refuses_a_role_that_does_not_exist() -> None:
    one, all_of_them = list(promises.listing("pki")), list(promises.listing())
    assert one[0].startswith("pki: ") and set(one) < set(all_of_them)
    assert all_of_them[-1].endswith(" promises") and any(line.startswith("Refused ") for line in all_of_them)
    with pytest.raises(SystemExit, match=r"ROLE=pkj: no such role or scenario; there is .*pki"):
        list(promises.listing("pkj"))


def test_the_name_of_a_test_becomes_a_sentence() -> None:
    assert doctest.testmod(promises).attempted
    assert doctest.testmod(promises).failed == 0


def test_a_promise_counts_once_and_names_where_it_is_tested(write) -> None:
    file = write(
        "molecule/rabbitmq/tests/test_broker.py",
        "import pytest\n"
        "@pytest.mark.parametrize('port', [1, 2])\n"
        "def test_it_answers(port): ...\n"
        "@pytest.mark.disruptive\n"
        "def test_it_comes_back(): ...\n"
        "def helper(): ...\n",
    )
    assert [(promise.sentence, promise.asked) for promise in promises.promises_in(file)] == [
        ("It answers.", "scenario, lab, live fleet"),
        ("It comes back.", "scenario, lab"),
    ]
    file.write_text("import pytest\npytestmark = [pytest.mark.disruptive, pytest.mark.scenario]\ndef test_it_boots(): ...\n")
    assert [promise.asked for promise in promises.promises_in(file)] == ["scenario"]


@pytest.mark.parametrize(
    ("folder", "marked", "places"),
    [
        ("kvm", set(), ["`make test-kvm`"]),
        ("cloud", set(), ["`make test-cloud`"]),
        ("residency", set(), ["scenario"]),
        ("shared", set(), ["scenario"]),
        ("default", {"long", "disruptive"}, ["`make test-operations`"]),
        ("default", set(), ["lab", "live fleet"]),
    ],
)
def test_a_promise_names_a_live_fleet_only_if_it_is_tested_there(folder, marked, places) -> None:
    assert promises.asked_on(folder, marked) == places


def test_names_in_a_sentence_become_code_and_the_rest_is_escaped() -> None:
    assert readmes.prose("A change of host_journal_* or __<role>_x, e.g. 3 * 4 | 5 <b>.") == (
        "A change of `host_journal_*` or `__<role>_x`, e.g. 3 \\* 4 \\| 5 \\<b>."
    )
