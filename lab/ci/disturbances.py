"""Find tests in molecule/*/tests that do more to a host than read: `make verify` runs on fleets at work.

What a test does is searched in its function and in all that it refers to by name in its folder, in molecule/shared and in
molecule/conftest.py: fixtures, helpers, constants.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from lab.ci.steps import VERIFIED
from lab.machine import REPOSITORY
from lab.promises import markers, targets

# Patterns of string constants: commands, SQL, programs for the host.
TEXTS = {
    "drives a unit": r"\bsystemctl (--\S+ )*(start|stop|re(start|load|set-failed)|kill|(en|dis)able|(un)?mask|try-|daemon-)",
    "starts a unit": r"\bsystemd-run\b",
    "drives a program": r"\bsupervisorctl (start|stop|restart|update|add|remove|reload|shutdown|signal|clear)\b",
    "ends a process": r"(^|[;&|] *)p?kill(all)? ",
    "edits accounts": r"\b(user|group)(add|del|mod)\b|\bchpasswd\b",
    "removes": r"(^|[;&|({] *|-exec )(rm|rmdir|shred|truncate) ",
    "writes": r"(^|[;&|({] *)(touch|mkdir|mktemp|tee|cp|mv|ln|dd|chmod|chown|chgrp|setfacl|install|ssh-keygen|sed -i)( |$)",
    "redirects into a file": r"(?<![<>=&-])>{1,2}(?!&| ?/dev/(null|std|tcp)|=) ?['\"]?[~/{$\w][^ ]*(/|\}|\.\w+$)",
    "changes the kernel": r"\bsysctl (-w|--write|--load|--system)|(^|[;&|] *)(u?mount|swapon|swapoff|reboot|shutdown) ",
    "changes the network": r"\bnft (add|delete|flush|-f)|\bip (link|addr|route) (add|del|set)|\bhostnamectl ",
    "changes packages": r"\bapt(-get)? (-\S+ )*(install|remove|purge|update|upgrade)\b|\bunattended-upgrade |\bdpkg -[irP]\b",
    "changes a database": r"\b(CREATE|ALTER|DROP|GRANT|REVOKE|TRUNCATE|INSERT INTO|DELETE FROM|UPDATE) [A-Za-z_{]",
    "changes a broker": r"^(add|set|clear|delete|change|stop|start|reset|forget|import|purge|close)_\w+$",
    "listens": r"\bcreate_server\(|\.listen\(",
    "changes files by a program": r"\bos\.(symlink|replace|rename|remove|unlink|mkdir|makedirs|kill)\(|open\([^)]*['\"][wax]",
}
# Calls by name. A method's object is unknown, so these are names that only such methods have.
METHODS = {"declare": "makes a queue", "publish": "publishes", "put_back": "takes a message", "ack": "takes a message"}
METHODS |= {"delete": "deletes", "create_server": "listens"}
# Playbooks that change no host.
READING = {"molecule/shared/inputs.yml"}


@dataclass
class Module:
    """The tests and top-level names of one file, and what it imports from other test files."""

    tests: list[tuple[ast.FunctionDef, set[str]]] = field(default_factory=list)
    names: dict[str, ast.AST] = field(default_factory=dict)
    imported: list[tuple[str, str]] = field(default_factory=list)


def module(path: Path) -> Module:
    result, body = Module(), ast.parse(path.read_text(encoding="utf-8")).body
    marks = [node.value for node in body if isinstance(node, ast.Assign) and "pytestmark" in targets(node)]
    for node in body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            result.names[node.name] = node
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            result.names |= dict.fromkeys(targets(node), node)
        elif isinstance(node, ast.ImportFrom):
            result.imported += [(node.module or "", alias.name) for alias in node.names]
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
            result.tests.append((node, markers([*marks, *node.decorator_list])))
    return result


def reached(test: ast.FunctionDef, scopes: list[dict[str, ast.AST]]) -> Iterator[ast.AST]:
    """The test and all that it refers to by name; earlier scopes hide later ones."""
    waiting, seen = [test], {id(test)}
    while waiting:
        node = waiting.pop()
        yield node
        for name in names_in(node):
            target = next((scope[name] for scope in scopes if name in scope), None)
            if target is not None and id(target) not in seen:
                seen.add(id(target))
                waiting.append(target)


def names_in(root: ast.AST) -> Iterator[str]:
    """Every name that is read, and the fixtures in parameters and usefixtures."""
    for node in ast.walk(root):
        if isinstance(node, ast.Name):
            yield node.id
        elif isinstance(node, ast.arg):
            yield node.arg
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "usefixtures":
            yield from (word.value for word in node.args if isinstance(word, ast.Constant))


def texts_in(root: ast.AST) -> Iterator[str]:
    """Every string except docstrings; f-strings with {} for their expressions."""
    documentation, inner = set(), set()
    for node in ast.walk(root):
        if isinstance(node, ast.Expr):
            documentation.add(id(node.value))
        elif isinstance(node, ast.JoinedStr):
            inner |= {id(part) for part in node.values}
            yield "".join(part.value if isinstance(part, ast.Constant) else "{}" for part in node.values)
    for node in ast.walk(root):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in documentation | inner:
            yield node.value


def called(call: ast.Call) -> str:
    return call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")


def disturbance(call: ast.Call) -> str | None:
    words = {word.value for word in ast.walk(call) if isinstance(word, ast.Constant)}
    if called(call) == "play" and not words & ({"--check"} | READING):
        return "runs a playbook"
    if called(call) == "ansible" and any(key.arg == "check" for key in call.keywords) and "debug" not in words:
        return "runs a module"
    return METHODS.get(called(call)) if isinstance(call.func, ast.Attribute) else None


def disturbances(nodes: Iterable[ast.AST]) -> set[str]:
    signs = set()
    for root in nodes:
        for text in texts_in(root):
            matches = [what for what, pattern in TEXTS.items() if re.search(pattern, text, re.MULTILINE)]
            signs |= {f"{what}: {text.strip()[:60]!r}" for what in matches}
        # `play` only passes its arguments on, so check its callers.
        calls = [] if getattr(root, "name", "") == "play" else [node for node in ast.walk(root) if isinstance(node, ast.Call)]
        signs |= {f"{what}: {called(call)}() in line {call.lineno}" for call in calls if (what := disturbance(call))}
        keys = [node.slice for node in ast.walk(root) if isinstance(node, ast.Subscript)]
        signs |= {
            f"needs what an inventory may lack: {key.value}"
            for key in keys
            if isinstance(key, ast.Constant) and str(key.value).startswith("ansible_") and key.value != "ansible_host"
        }
    return signs


def unmarked(home: Path, molecule: Path = REPOSITORY / "molecule") -> dict[str, set[str]]:
    """The tests of a folder that would run on a fleet at work, and what each would do to it."""
    modules = {path: module(path) for path in sorted(home.glob("*.py"))}
    helpers = [path for path in modules if not path.stem.startswith("test_")]
    shared = [module(path).names for path in [*sorted((molecule / "shared").glob("*.py")), molecule / "conftest.py"]]
    faults = {}
    for path, own in modules.items():
        imported = {
            name: modules[home / f"{file}.py"].names[name]
            for file, name in own.imported
            if name in getattr(modules.get(home / f"{file}.py"), "names", {})
        }
        scopes = [own.names, imported, *(modules[helper].names for helper in helpers), *shared]
        for test, marks in own.tests:
            if not marks & {"disruptive", "job", "scenario"} and (what := disturbances(list(reached(test, scopes)))):
                faults[f"{path.name}::{test.name}"] = what
    return faults


def folders() -> list[Path]:
    """The folders whose tests `make verify` runs."""
    candidates = [REPOSITORY / f"molecule/{name}/tests" for name in VERIFIED]
    return [folder for folder in candidates if folder.is_dir()]
