"""What lynis reports about a host."""

from __future__ import annotations

from typing import Any


def read_report(text: str) -> dict[str, Any]:
    """lynis-report.dat: lines key=value; lists are key[]=value, with fields separated by bars.

    >>> read_report("hardening_index=81\\nlynis_version=3.1.4\\nwarning[]=A-1|Mend it|-|-|\\n")["warnings"]
    ['A-1 Mend it']
    """
    values: dict[str, str] = {}
    lists: dict[str, list[str]] = {"warning[]": [], "suggestion[]": []}
    for line in text.splitlines():
        key, _, value = line.partition("=")
        if key in lists:
            test, message, detail, *_ = [*value.split("|"), "", ""]
            lists[key].append(f"{test} {message}" + (f" ({detail})" if detail not in ("", "-") else ""))
        else:
            values[key] = value
    return {
        "index": int(values.get("hardening_index") or 0),
        "version": values.get("lynis_version", ""),
        "warnings": lists["warning[]"],
        "suggestions": lists["suggestion[]"],
    }
