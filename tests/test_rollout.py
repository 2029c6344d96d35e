"""Batches that keep an application working, and rollbacks to the previous release."""

import pytest
from ansible_collections.grunnfjell.platform.plugins.module_utils.releases import Releases, history_ending_at
from ansible_collections.grunnfjell.platform.plugins.modules.supervisor_programs import leaving
from ansible_collections.grunnfjell.platform.plugins.plugin_utils.fleet.rollout import (
    NOBODY,
    batch_sizes,
    cut,
    release_leader,
    restart_batches,
    rollback_target,
    waiting_hosts,
)
from hypothesis import given
from hypothesis import strategies as st

APPLICATIONS = st.dictionaries(st.text("abcdefgh", min_size=1, max_size=2), st.sampled_from(["shop", "news"]), min_size=1)


@given(APPLICATIONS, st.lists(st.integers(1, 9), min_size=1, max_size=3), st.data())
def test_no_batch_stops_all_workers_of_an_application_that_has_several(application, sizes, data) -> None:
    hosts = data.draw(st.lists(st.sampled_from(sorted(application)), unique=True, min_size=1))
    batches = cut(hosts, application, sizes)
    assert sum(batches) == len(hosts) and min(batches) >= 1
    for number, size in enumerate(batches):
        assert size <= sizes[min(number, len(sizes) - 1)]
        batch, hosts = set(hosts[:size]), hosts[size:]
        for name in application.values():
            workers = {host for host, its_application in application.items() if its_application == name}
            assert len(workers) == 1 or not workers <= batch


def test_a_batch_has_the_syntax_of_serial() -> None:
    assert batch_sizes([1, "25%"], 12) == [1, 3]
    assert batch_sizes("10%", 5) == [1], "an empty batch would never end"
    assert cut(list("abcdefgh"), dict.fromkeys("abcdefgh", "shop"), [1, 3]) == [1, 3, 3, 1]
    with pytest.raises(ValueError, match="'many'"):
        batch_sizes("many", 5)


def test_only_hosts_with_a_pending_change_are_restarted() -> None:
    hosts = {
        "a": {"plan": {"pending": True}, "application_name": "shop"},
        "b": {"plan": {"pending": False}, "application_name": "shop"},
        "c": {},
    }
    assert waiting_hosts(list(hosts), hosts, "plan") == ["a"]
    assert waiting_hosts(["b", "c"], hosts, "plan") == NOBODY
    assert restart_batches(list(hosts), hosts, "batch", 5, "plan") == [1]


@pytest.mark.parametrize(
    ("histories", "target"),
    [
        ([["a", "b", "c"], ["b", "c"]], "b"),
        ([["a", "b", "c"], ["a", "b"]], "b"),  # stopped half-way: not back to a, which no host runs
        ([["b", "c"], ["c"]], "b"),  # a host that came later
        ([["a", "b"], []], "a"),
    ],
)
def test_a_rollback_finds_the_previous_release(histories: list[list[str]], target: str) -> None:
    assert rollback_target(histories) == target


@pytest.mark.parametrize("histories", [[], [["a"]], [["a", "c"], ["b", "c"]]])
def test_an_ambiguous_rollback_is_refused(histories: list[list[str]]) -> None:
    with pytest.raises(ValueError, match="release=ID"):
        rollback_target(histories)


@pytest.mark.parametrize(
    ("ready", "leader"),
    [
        ({}, "a1"),
        ({"a1": {"ready": False}, "a2": {"ready": False}}, "a1"),
        ({"a2": {"ready": True}}, ""),
        ({"b1": {"ready": True}}, "a1"),
        # They ran for another environment, by which they may have prepared another database.
        ({"a1": {"ready": True, "prepared": False}, "a2": {"ready": True, "prepared": False}}, "a1"),
        ({"a1": {"ready": True, "prepared": True}, "a2": {"ready": True, "prepared": False}}, ""),
    ],
)
def test_one_host_of_an_application_runs_its_release_s_commands_unless_they_have_succeeded(ready: dict, leader: str) -> None:
    hosts = {
        name: {"application_name": application, "__application_release": ready.get(name, {})}
        for name, application in (("b1", "b"), ("a1", "a"), ("a2", "a"), ("db1", None))
    }
    assert release_leader("a", list(hosts), hosts) == leader
    assert release_leader("c", list(hosts), hosts) == ""


def test_an_abandoned_release_is_never_the_previous_one() -> None:
    history = history_ending_at(history_ending_at(["a", "b"], "c"), "b")
    assert history == ["a", "b"]
    assert history_ending_at(history, "d") == ["a", "b", "d"]


def test_pruning_prefers_the_target_of_a_rollback_to_abandoned_releases(tmp_path) -> None:
    releases = Releases(tmp_path)
    for name in ("a", "b", "c"):
        (tmp_path / "releases" / name).mkdir(parents=True)
        (tmp_path / "releases" / name / ".ready").touch()
        releases.switch(name)
    releases.switch("b")
    releases.prune(2)
    assert sorted(path.name for path in (tmp_path / "releases").iterdir()) == ["a", "b"]


def test_a_program_stops_when_its_section_changes_or_is_removed() -> None:
    before = "[program:one]\ncommand=a\n\n[program:two]\ncommand=b\n"
    assert leaving(before, "# a comment\n[program:one]\ncommand=a\n[program:new]\ncommand=c\n") == {"two"}
    assert leaving(before, before.replace("command=b", "command=b --more")) == {"two"}
    assert leaving(before, before.replace("[program:two]", "[fcgi-program:two]")) == {"two"}
    assert leaving("", before) == set()
