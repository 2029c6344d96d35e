"""What lynis wrote about a host."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Lynis:
    index: int
    version: str
    warnings: list[str]
    suggestions: list[str]


def read_report(text: str) -> Lynis:
    """lynis-report.dat: key=value, and key[]=value for lists whose fields a bar divides.

    >>> read_report("hardening_index=81\\nlynis_version=3.1.4\\nwarning[]=A-1|Mend it|-|-|\\n").warnings
    ['A-1 Mend it']
    """
    plain: dict[str, str] = {}
    lists: dict[str, list[str]] = {"warning[]": [], "suggestion[]": []}
    for line in text.splitlines():
        key, _, value = line.partition("=")
        if key in lists:
            test, said, detail, *_ = [*value.split("|"), "", ""]
            lists[key].append(f"{test} {said}" + (f" ({detail})" if detail not in ("", "-") else ""))
        else:
            plain[key] = value
    return Lynis(
        int(plain.get("hardening_index") or 0), plain.get("lynis_version", ""), lists["warning[]"], lists["suggestion[]"]
    )
