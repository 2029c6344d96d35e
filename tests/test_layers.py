"""A package may import only packages below it in the order of docs/architecture.md."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
KIT = "ansible_collections.grunnfjell.platform"
# Packages of one row may import the rows below theirs and not each other.
ROWS = [
    {"plugins.action", "plugins.callback", "plugins.filter", "plugins.lookup"},
    {"plugins.plugin_utils.refusals", "plugins.plugin_utils.reports", "plugins.plugin_utils.progress"},
    {"plugins.plugin_utils.capacity", "plugins.plugin_utils.network", "plugins.plugin_utils.trust"},
    {"plugins.plugin_utils.sizing"},
    {"plugins.plugin_utils.fleet"},
]
# Code of the hosts does not import code of the control node.
HOST_ROWS = [{"plugins.modules"}, {"plugins.module_utils"}]
# The collection never imports what tests it.
ABOVE = {"lab", "molecule", "tests"}


def package_of(module: str) -> str:
    """The package that has a row: a part of plugin_utils, or a folder of plugins."""
    parts = module.split(".")
    return ".".join(parts[:3] if parts[:2] == ["plugins", "plugin_utils"] else parts[:2])


def imports(path: Path, root: Path = ROOT) -> Iterator[tuple[int, str]]:
    """Line and module, from the root of the repository, of each import of the kit's code."""
    package = path.relative_to(root).parent.parts
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom):
            base = ".".join(package[: len(package) - node.level + 1]) if node.level else ""
            module = ".".join(part for part in (base, node.module) if part)
            names = [f"{module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        else:
            continue
        for name in names:
            name = name.removeprefix(f"{KIT}.")
            if name.split(".")[0] in {"plugins", *ABOVE}:
                yield node.lineno, name


def violations(root: Path = ROOT) -> list[str]:
    """A sentence for each import that goes up or sideways."""
    sentences = []
    for rows in (ROWS, HOST_ROWS):
        rank = {package: number for number, row in enumerate(rows) for package in row}
        for package in rank:
            for path in sorted((root / package.replace(".", "/")).rglob("*.py")):
                for line, module in imports(path, root):
                    target = package_of(module)
                    if target != package and rank.get(target, -1) <= rank[package]:
                        sentences.append(f"{path.relative_to(root)}:{line} imports {module}, which is not below {package}")
    return sentences


def test_every_import_goes_down() -> None:
    assert violations() == []


def test_every_package_has_its_row() -> None:
    """A new package under plugins/ needs a row here."""
    packages = {package_of(".".join(path.relative_to(ROOT).parent.parts)) for path in (ROOT / "plugins").rglob("*.py")}
    assert packages - {"plugins.plugin_utils"} == set().union(*ROWS, *HOST_ROWS)


@pytest.mark.parametrize(
    ("file", "line"),
    [
        ("plugins/plugin_utils/fleet/model.py", "from ..refusals import refusals"),
        ("plugins/plugin_utils/network/flows.py", "from ..capacity.line import Line"),
        ("plugins/plugin_utils/sizing/rabbitmq.py", f"from {KIT}.plugins.action import topology"),
        ("plugins/modules/firewall.py", "from ..plugin_utils.network import flows"),
        ("plugins/module_utils/psql.py", "from ..modules import firewall"),
        ("plugins/action/topology.py", "import lab.machine"),
    ],
)
def test_an_import_that_goes_up_is_found(tmp_path: Path, write, file: str, line: str) -> None:
    write(file, f"{line}\n")
    assert len(violations(tmp_path)) == 1


def test_no_code_changes_the_import_path() -> None:
    """`make setup` links the checkout into Python's path; code that changes the path would break in the artifact."""
    words = ("sys.path." + "insert", "sys.path." + "append", "__path__." + "append")
    changes = [
        f"{path.relative_to(ROOT)}: {word}"
        for top in ("plugins", "lab", "molecule", "tests", "roles", "examples")
        for path in (ROOT / top).rglob("*.py")
        for word in words
        if word in path.read_text(encoding="utf-8")
    ]
    assert changes == []
