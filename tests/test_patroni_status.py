"""What `make status` reports about the members of a Patroni cluster."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.grunnfjell.platform.plugins.plugin_utils.reports import patroni
from ansible_collections.grunnfjell.platform.plugins.plugin_utils.reports.status_text import render
from test_status import fleet, report_of

ANSWER = {"state": "running", "pending_restart": False, "paused": False, "problems": []}
MEMBERS = {
    "db1": {"role": "leader", "state": "running", "timeline": 3, "lag": None},
    "db2": {"role": "sync_standby", "state": "streaming", "timeline": 3, "lag": 0},
    "db3": {"role": "replica", "state": "streaming", "timeline": 3, "lag": 4096},
}


def attention(**changed: dict[str, Any]) -> list[str]:
    """The sentences where members answer with other values."""
    answers = {name: ANSWER | {"name": name, "members": MEMBERS} | changed.get(name, {}) for name in MEMBERS}
    return list(patroni.patroni_attention({"patroni": answers}))


def with_part(name: str, **values: Any) -> dict[str, Any]:
    return {"members": MEMBERS | {name: MEMBERS[name] | values}}


def test_a_sound_cluster_needs_no_attention() -> None:
    assert attention() == [] and attention(db2={"error": "does not answer"}) == []


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        ({"problems": ["no standby is synchronous"]}, "PostgreSQL's cluster: no standby is synchronous (docs/patroni.md)"),
        ({"paused": True}, "Patroni is paused, so nobody takes over from a lost primary: patronictl resume"),
        ({"pending_restart": True}, "db1: PostgreSQL runs with a setting of before its change: run site.yml, which restarts it"),
        (with_part("db3", lag=100 * 1024**2), "db3 is 100 MiB behind the primary"),
        (with_part("db2", role="leader"), "the members name different primaries: db1, db2 (docs/patroni.md)"),
    ],
)
def test_each_trouble_is_a_sentence(changed: dict[str, Any], sentence: str) -> None:
    assert attention(db1=changed) == [sentence]


def test_a_sentence_that_every_member_says_is_printed_once() -> None:
    trouble = {"problems": ["db3 is start failed"]}
    assert attention(db1=trouble, db2=trouble) == ["PostgreSQL's cluster: db3 is start failed (docs/patroni.md)"]


def test_standbys_are_not_reported_as_servers_that_take_no_writes() -> None:
    answers = fleet()
    database = answers["db1"]["sections"]["database"] | {"accepts_writes": False}
    answers["db1"]["sections"]["database"] = database
    assert report_of(answers)["attention"] == ["db1: PostgreSQL is in recovery and takes no writes"]
    primary_elsewhere = MEMBERS | {"db1": MEMBERS["db2"], "db2": MEMBERS["db1"]}
    answers["db1"]["sections"]["patroni"] = ANSWER | {"name": "db1", "members": primary_elsewhere}
    assert report_of(answers)["attention"] == []
    assert (
        "postgresql  db2: primary, running, timeline 3\n  postgresql  db1: synchronous standby, streaming, timeline 3"
        in render(report_of(answers))
    )


def test_a_member_that_does_not_answer_is_named_with_its_reason() -> None:
    answers = fleet()
    answers["db1"]["sections"]["patroni"] = {"error": "it does not answer. On db1: journalctl -u 'patroni@*'"}
    assert report_of(answers)["attention"] == ["db1: its Patroni: it does not answer. On db1: journalctl -u 'patroni@*'"]
