"""Pages for people: data into a template of templates/reports. Each page is one file that loads nothing."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

# plugins/plugin_utils/reports/ is three folders below the collection, in a checkout as in an installed artifact.
TEMPLATES = Path(__file__).resolve().parents[3] / "templates" / "reports"


@cache
def environment() -> Environment:
    """Every value is escaped. A value that the page's data lacks is an error, not an empty cell."""
    return Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )


def render(template: str, data: dict[str, Any]) -> str:
    return environment().get_template(template).render(data)


def toned(text: str, tone: str) -> dict[str, str]:
    """A table's cell in a colour of style.css: good, bad, odd or dim."""
    return {"text": text, "tone": tone}
