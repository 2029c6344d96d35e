"""The wrong things that the platform promises to refuse, and the table of what came of each."""

from __future__ import annotations

import json
import re
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path

from ansible_collections.grunnfjell.platform.plugins.plugin_utils.reports.html import render

# Each has at least one row in the end.
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
        """Write down what came of it; the promise is that the wrong one is out, for this reason, and the right one in.

        `why` is a pattern: a service that is down refuses everybody, too.
        """
        assert tried in WRONG_THINGS, tried
        self.rows.append(Row(tried, how, *ends, not wrong.got_in, wrong.said, right.said))
        assert not wrong.got_in, f"{tried}, {how}: it got in, {wrong.said}"
        assert re.search(why, wrong.said), f"{tried}, {how}: refused for another reason than {why!r}: {wrong.said}"
        assert right.got_in, f"{tried}, {how}: the right one is kept out as well, so that this shows nothing: {right.said}"

    def write(self, build: Path) -> None:
        tried = {row.tried for row in self.rows}
        report = {
            "ended": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
            "refused": sum(row.refused for row in self.rows),
            "got_in": sum(not row.refused for row in self.rows),
            "not_tried": [name for name in WRONG_THINGS if name not in tried],
            "rows": [asdict(row) for row in self.rows],
        }
        build.mkdir(exist_ok=True)
        (build / "intruders.json").write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
        (build / "intruders.html").write_text(page(report), encoding="utf-8")


def page(report: dict) -> str:
    good = not report["got_in"] and not report["not_tried"]
    return render("intruders.html.j2", {"report": report, "tone": "good" if good else "bad"})
