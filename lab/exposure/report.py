"""build/exposure.json and build/exposure.html: who reaches what, what of it is declared, and what a capture showed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from html import escape

from lab.exposure.judging import Verdict
from lab.exposure.scan import Reached
from lab.page import document


def line(reached: Reached, purpose: str = "") -> dict[str, object]:
    told = {"source": reached.source, "destination": reached.destination, "port": reached.port, "protocol": reached.protocol}
    return told | ({"purpose": purpose} if purpose else {})


def told(verdict: Verdict, conditions: Mapping[str, object], capture: Mapping[str, object] | None) -> dict[str, object]:
    def lines(found: Iterable[Reached]) -> list[dict[str, object]]:
        return [line(each, verdict.declared.get(each, "")) for each in sorted(found)]

    return {
        "declared": lines(verdict.declared),
        "open": lines(verdict.open),
        "undeclared": lines(verdict.undeclared),
        "missing": lines(verdict.missing),
        "conditions": conditions,
    } | ({"capture": capture} if capture else {})


def matrix(verdict: Verdict, sources: list[str], hosts: list[str]) -> str:
    """A row for each place looked from, a column for each host, the ports in the cells."""

    def cell(source: str, host: str) -> str:
        if source == host:
            return '<td class="dim">—</td>'
        ways = sorted(way for way in verdict.open | set(verdict.declared) if (way.source, way.destination) == (source, host))
        words = []
        for way in ways:
            name = str(way.port) if way.protocol == "tcp" else f"{way.port}/{way.protocol}"
            if way not in verdict.declared:
                words.append(f'<span class="bad" title="open, and declared by nothing">{name} ✗</span>')
            elif way not in verdict.open:
                words.append(f'<span class="dim" title="declared, and not open: {escape(verdict.declared[way])}">({name})</span>')
            else:
                words.append(f'<span title="{escape(verdict.declared[way])}">{name}</span>')
        return f"<td>{', '.join(words) or '<span class=dim>nothing</span>'}</td>"

    head = "".join(f"<th>{escape(host)}</th>" for host in hosts)
    rows = "".join(f"<tr><td>{escape(source)}</td>{''.join(cell(source, host) for host in hosts)}</tr>" for source in sources)
    return f'<div class="wide"><table><thead><tr><th>from \\ to</th>{head}</tr></thead><tbody>{rows}</tbody></table></div>'


def purposes(verdict: Verdict) -> str:
    named: dict[tuple[str, int, str], set[str]] = {}
    for way, purpose in verdict.declared.items():
        named.setdefault((way.protocol, way.port, purpose), set()).add(way.destination)
    rows = "".join(
        f"<tr><td>{port}/{protocol}</td><td>{escape(purpose)}</td><td>{escape(', '.join(sorted(hosts)))}</td></tr>"
        for (protocol, port, purpose), hosts in sorted(named.items())
    )
    head = "<th>port</th><th>for</th><th>on</th>"
    return f'<div class="wide"><table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div>'


def by_ipv6(links: Mapping[str, str]) -> str:
    without = sorted(name for name, address in links.items() if not address)
    return f"not by IPv6, which {escape(', '.join(without))} do not have" if without else "by the IPv6 addresses of the link"


def captured(capture: Mapping[str, object]) -> str:
    rows = "".join(
        f"<tr><td>{escape(str(flow['port']))}</td><td>{flow['packets']:,}</td><td>{flow['payload_bytes']:,}</td>"
        f"<td>{flow['tls_share']:.1%}</td></tr>"
        for flow in capture["ports"]
    )
    head = "<th>port</th><th>packets</th><th>bytes of payload</th><th>of it in TLS records</th>"
    readable = capture["readable"]
    word = "Nothing that is secret was readable." if not readable else f"Readable on the wire: {escape(', '.join(readable))}."
    return f"""<h2>What the wire shows during work</h2>
<p class="{"bad" if readable else "good"}">{word}</p>
<p class="dim">{capture["packets"]:,} packets, {capture["bytes"]:,} bytes, while {capture["jobs"]} jobs were accepted and done.
Looked for: {escape(", ".join(capture["looked_for"]))}; each as it is, in base64 at
each offset, in hexadecimal, escaped and in UTF-16.</p>
<div class="wide"><table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div>"""


def page(all_of_it: Mapping[str, object], verdict: Verdict, sources: list[str], hosts: list[str]) -> str:
    good = not verdict.undeclared and not verdict.missing
    word = "Exactly the declared flows are open." if good else (
        f"{len(verdict.undeclared)} ways are open and undeclared; {len(verdict.missing)} are declared and not open."
    )  # fmt: skip
    conditions = all_of_it["conditions"]
    capture, unrecorded = all_of_it.get("capture"), conditions.get("unrecorded")
    body = f"""<h1>Exposure: who reaches what</h1>
<p class="{"good" if good else "bad"}">{word}</p>
<p class="dim">{escape(str(conditions["began"]))}, {conditions["took_s"]:.0f} s; {escape(str(conditions["scanner"]))};
all 65,535 TCP ports and {len(conditions["udp_ports"])} UDP ports of every host, by IPv4 and {by_ipv6(conditions["ipv6"])},
from every other, from the controller, and from a stranger on the same network ({escape(str(conditions["stranger"]))}).
In brackets: declared, and not open.</p>
{matrix(verdict, sources, hosts)}
<h2>What is declared, and for what</h2>
{purposes(verdict)}
{captured(capture) if capture else ""}
{f'<p class="bad">Nothing is known of the wire: {escape(unrecorded)}</p>' if unrecorded else ""}"""
    return document("Exposure", body)
