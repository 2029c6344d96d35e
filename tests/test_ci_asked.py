"""What a run of CI asks for, read from the source of a tree, and what another tree asks less."""

from pathlib import Path

import pytest

from lab.ci.asked import asked, lost, of_commit

TREE = {
    "lab/ci/scenarios.py": 'SHARE = 4\nCLUSTERS = ("etcd",)\n',
    "lab/ci/steps.py": (
        'STEPS = (Step("unit", "unit", tool("pytest", "--share=2")), Step("mutants", "", tool("python", "--share", "8")))\n'
    ),
    "roles/host/tasks/main.yml": "",
    "molecule/host/tests/test_host.py": (
        "import pytest\n"
        "def test_on_the_lab(): ...\n"
        "@pytest.mark.scenario\ndef test_in_its_scenario(): ...\n"
        "@pytest.mark.long\ndef test_for_an_hour(): ...\n"
    ),
    "molecule/etcd/tests/test_etcd.py": "def test_a_lost_member(): ...\n",
    "molecule/kvm/tests/test_kvm.py": "def test_a_reboot(): ...\n",
    "tests/test_sizes.py": "def test_a_size(): ...\n",
    "tests/wrong_inventories.yml": "- fault: no host\n",
    "tests/wrong_applications.yml": "- fault: acks early\n",
    "tests/mutants/sizes.yml": "- fault: twice the size\n",
}


def test_each_test_has_the_turn_in_which_ci_asks_it(write) -> None:
    for path, text in TREE.items():
        home = write(path, text).parents[len(Path(path).parts) - 1]
    assert asked(home) == {
        "host: test_on_the_lab": 1,
        "host: test_in_its_scenario": 4,
        "test_sizes: test_a_size": 1,
        "tests/wrong_inventories.yml: no host": 2,
        "tests/wrong_applications.yml: acks early": 1,
        "tests/mutants/sizes.yml: twice the size": 8,
    }


@pytest.mark.parametrize(
    "after, lines",
    [
        ({"a": 1, "b": 4, "c": 1}, []),
        ({"a": 1, "b": 1}, []),
        ({"a": 1}, ["no longer asked: b"]),
        ({"a": 2, "b": 4}, ["asked in one of 2 commits instead of one of 1: a"]),
    ],
)
def test_what_is_asked_less_is_lost(after: dict[str, int], lines: list[str]) -> None:
    assert lost({"a": 1, "b": 4}, after) == lines


def test_a_commit_is_read_from_the_repository() -> None:
    found = of_commit("HEAD")
    assert len(found) > 1000
    assert set(found.values()) <= {1, 4, 8}
