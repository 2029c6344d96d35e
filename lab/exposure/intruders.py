"""The wrong things that the platform promises to refuse, and the table of what came of each."""

from __future__ import annotations

import json
import re
import time
from dataclasses import asdict, dataclass, field
from html import escape
from pathlib import Path

from lab.page import document

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
        told = {
            "ended": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
            "refused": sum(row.refused for row in self.rows),
            "got_in": sum(not row.refused for row in self.rows),
            "not_tried": [name for name in WRONG_THINGS if name not in tried],
            "rows": [asdict(row) for row in self.rows],
        }
        build.mkdir(exist_ok=True)
        (build / "intruders.json").write_text(json.dumps(told, indent=2) + "\n", encoding="utf-8")
        (build / "intruders.html").write_text(page(told), encoding="utf-8")


def page(told: dict) -> str:
    good = not told["got_in"] and not told["not_tried"]
    rows = "".join(
        f"<tr><td>{escape(row['tried'])}<br><span class=dim>{escape(row['how'])}</span></td>"
        f"<td>{escape(row['source'])}</td><td>{escape(row['destination'])}</td>"
        f'<td class="{"good" if row["refused"] else "bad"}">{"refused" if row["refused"] else "GOT IN"}</td>'
        f"<td><code>{escape(row['said'])}</code></td><td><code>{escape(row['control'])}</code></td></tr>"
        for row in told["rows"]
    )
    heads = ("tried", "from", "to", "", "what the intruder was told", "what the right one was told")
    lacking = f'<p class="bad">Not tried: {escape(", ".join(told["not_tried"]))}.</p>' if told["not_tried"] else ""
    style = "td, th { text-align: left; white-space: normal; vertical-align: top; } td:first-child { min-width: 14rem; }"
    return document(
        "Intruders",
        f"""<style>{style}</style><h1>Wrong things tried</h1>
<p class="{"good" if good else "bad"}">{told["refused"]} refused, {told["got_in"]} got in.</p>{lacking}
<p class="dim">{escape(told["ended"])}. Beside each, the same
thing done by whoever may: a service that is down refuses everybody.</p>
<div class="wide"><table><thead><tr>{"".join(f"<th>{head}</th>" for head in heads)}</tr></thead>
<tbody>{rows}</tbody></table></div>""",
    )
