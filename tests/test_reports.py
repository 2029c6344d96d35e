"""HTML pages come from templates/reports: no markup in Python, nothing unescaped, nothing to load."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from ansible_collections.grunnfjell.platform.plugins.plugin_utils.reports.html import TEMPLATES, render, toned
from jinja2 import TemplateError

ROOT = Path(__file__).resolve().parents[1]
ELEMENTS = (
    "html|head|meta|title|style|body|h1|h2|h3|p|div|span|br|ul|ol|li|table|thead|tbody|tr|th|td|figure|figcaption|code|i|b|a|"
    "svg|g|path|line|rect|circle|polyline|polygon|text"
)
MARKUP = re.compile(rf"<!doctype|</?(?:{ELEMENTS})\b(?=[\s/>]|$)", re.IGNORECASE)


def markup(source: str) -> Iterator[tuple[int, str]]:
    """Line and tag of every string, docstrings and the parts of f-strings included."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and (match := MARKUP.search(node.value)):
            yield node.lineno, match.group()


def test_no_python_file_contains_html_or_svg() -> None:
    problems = [
        f"{path.relative_to(ROOT)}:{line} has {tag!r}; move it into templates/reports"
        for top in ("plugins", "lab")
        for path in sorted((ROOT / top).rglob("*.py"))
        for line, tag in markup(path.read_text(encoding="utf-8"))
    ]
    assert problems == []


@pytest.mark.parametrize(
    "source", ["'<td>x</td>'", "f'<td{x}>{y}'", "f'{x}</svg>'", '"""\n<line x1="0"/>"""', "'<!doctype html>'"]
)
def test_markup_in_a_string_is_found(source: str) -> None:
    assert list(markup(source))


@pytest.mark.parametrize("source", ["'1 < 2 and a < b'", "'<role>_<key>, <<'", "'List[str] -> <Host db1>'"])
def test_a_placeholder_is_not_markup(source: str) -> None:
    assert not list(markup(source))


def test_every_page_extends_the_base_and_there_is_one_style_sheet() -> None:
    assert [path.name for path in TEMPLATES.rglob("*.css")] == ["style.css"]
    for path in TEMPLATES.glob("*.j2"):
        text = path.read_text(encoding="utf-8")
        assert path.stem in ("base.html", "parts.html") or text.startswith('{% extends "base.html.j2" %}\n'), path.name
        assert ("<style" in text) == (path.stem == "base.html"), path.name
        assert not re.search(r"https?:|src=|href=|url\(|@import|<script|\| *safe|autoescape|\{% *(set|macro .*caller)", text), (
            path.name
        )


def test_values_are_escaped_even_inside_a_macro() -> None:
    sections = [("<i>", "s", ["<head>"], [["<cell>", toned("<toned>", "bad")]], "none")]
    page = render("residency.html.j2", {"head": "<b>", "verdict": "v", "tone": "good", "sections": sections})
    for word in ("i", "head", "cell", "toned", "b"):
        assert f"&lt;{word}&gt;" in page, word
    assert '<td class="bad">&lt;toned&gt;</td>' in page and page.startswith("<!doctype html>") and page.endswith("</html>\n")


def test_a_missing_value_is_an_error() -> None:
    with pytest.raises(TemplateError, match="verdict"):
        render("residency.html.j2", {"head": "h", "tone": "good", "sections": []})
