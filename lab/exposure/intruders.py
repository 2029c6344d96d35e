"""The intrusions that the platform promises to refuse, and the table of their results."""

from __future__ import annotations

import re
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path

from ansible_collections.grunnfjell.platform.plugins.plugin_utils.reports.html import render

from lab.reports import write_report

# In the end each must have a row.
WRONG_THINGS = (
    "guest login",
    "plaintext AMQP",
    "expired database user through PgBouncer",
    "wrong CA",
    "expired certificate",
    "database from a worker directly",
    "broker from outside",
    "management interface from outside",
    "a worker's process reading a secret that it does not need",
    "one application's user in another's virtual host or database",
    "a message from a publisher without permission",
    "egress to an undeclared address",
)


@dataclass(frozen=True)
class Answer:
    got_in: bool
    said: str


@dataclass(frozen=True)
class Row:
    tried: str
    how: str
    source: str
    destination: str
    refused: bool
    said: str
    control: str


@dataclass
class Book:
    rows: list[Row] = field(default_factory=list)

    def refused(self, tried: str, how: str, ends: tuple[str, str], wrong: Answer, right: Answer, why: str) -> None:
        """Record a result. The wrong client must be refused for this reason, and the right one admitted.

        `why` is a pattern: a service that is down refuses everybody.
        """
        assert tried in WRONG_THINGS, tried
        self.rows.append(Row(tried, how, *ends, not wrong.got_in, wrong.said, right.said))
        assert not wrong.got_in, f"{tried}, {how}: it got in, {wrong.said}"
        assert re.search(why, wrong.said), f"{tried}, {how}: refused for another reason than {why!r}: {wrong.said}"
        assert right.got_in, f"{tried}, {how}: the right one is refused as well, which shows nothing: {right.said}"

    def write(self, build: Path) -> None:
        tried = {row.tried for row in self.rows}
        report = {
            "ended": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
            "refused": sum(row.refused for row in self.rows),
            "got_in": sum(not row.refused for row in self.rows),
            "not_tried": [name for name in WRONG_THINGS if name not in tried],
            "rows": [asdict(row) for row in self.rows],
        }
        write_report("intruders", report, page(report), build)


def page(report: dict) -> str:
    good = not report["got_in"] and not report["not_tried"]
    return render("intruders.html.j2", {"report": report, "tone": "good" if good else "bad"})
