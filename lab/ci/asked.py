"""List what one run of CI asks for, and compare two commits: `python -m lab.ci.asked`, `python -m lab.ci.asked BEFORE [AFTER]`.

Each line begins with N: CI asks it in one of N commits. A comparison prints what AFTER (default: the working tree) asks no longer
or less often, and fails if there is any. A test that was renamed is such a line too.

The source of a commit is read, not run. So commits can be listed that are older than this file.
"""

from __future__ import annotations

import ast
import io
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import yaml

from lab.machine import REPOSITORY
from lab.promises import markers, targets

# Tables of inputs, and the step that tries their rows, or some of them.
TABLES = {
    "tests/wrong_inventories.yml": "unit",
    "molecule/*/wrong_inventories.yml": "unit",
    "tests/wrong_applications.yml": "",
    "tests/mutants/*.yml": "mutants",
}
NOT_ON_THE_LAB = {"topology", "residency"}
BY_NAME = {"cloud", "kvm"}


def marked(path: Path) -> Iterator[tuple[str, set[str]]]:
    """The tests of a file with their markers."""
    body = ast.parse(path.read_text(encoding="utf-8")).body
    module = [node.value for node in body if isinstance(node, ast.Assign) and "pytestmark" in targets(node)]
    for node in body:
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
            yield node.name, markers([*module, *node.decorator_list])


def constants(path: Path) -> dict[str, object]:
    """What a module's top level assigns as a literal."""
    values = {}
    for node in ast.parse(path.read_text(encoding="utf-8")).body if path.exists() else ():
        if isinstance(node, ast.Assign):
            try:
                values |= dict.fromkeys(targets(node), ast.literal_eval(node.value))
            except ValueError:
                continue
    return values


def share(home: Path, step: str) -> int:
    """The N of `--share=N`, or `--share`, `N`, in the command of a step; 1 if it has none."""
    if not (steps := home / "lab/ci/steps.py").exists():
        return 1
    for call in ast.walk(ast.parse(steps.read_text(encoding="utf-8"))):
        if isinstance(call, ast.Call) and call.args and isinstance(call.args[0], ast.Constant) and call.args[0].value == step:
            words = [node.value for node in ast.walk(call) if isinstance(node, ast.Constant) and isinstance(node.value, str)]
            if numbers := [word for flag, word in pairwise(words) if flag == "--share"]:
                return int(numbers[0])
            return next((int(word.partition("=")[2]) for word in words if word.startswith("--share=")), 1)
    return 1


def asked(home: Path) -> dict[str, int]:
    """Each promise, unit test, wrong inventory and mutant that CI asks for, with the N of "one of N commits"."""
    known = constants(home / "lab/ci/scenarios.py")
    clusters, every = set(known.get("CLUSTERS", ())), int(str(known.get("SHARE", 1)))
    found: dict[str, int] = {}

    def note(name: str, turn: int) -> None:
        found[name] = min(turn, found.get(name, turn))

    for path in sorted(home.glob("molecule/*/tests/test_*.py")):
        scenario = path.parents[1].name
        for name, marks in marked(path):
            on_the_lab = scenario not in NOT_ON_THE_LAB | BY_NAME | {"shared"} and not marks & {"scenario", "long"}
            if on_the_lab and ((home / f"roles/{scenario}").is_dir() or scenario == "default"):
                note(f"{scenario}: {name}", 1)
            elif scenario not in clusters | BY_NAME | {"default"} and (scenario == "shared" or "long" not in marks):
                note(f"{scenario}: {name}", every)
    for path in sorted(home.glob("tests/test_*.py")):
        for name, _ in marked(path):
            note(f"{path.stem}: {name}", 1)
    for pattern, step in TABLES.items():
        turn = share(home, step)
        for path in sorted(home.glob(pattern)):
            for row in yaml.safe_load(path.read_text(encoding="utf-8")):
                note(f"{path.relative_to(home)}: {row['fault']}", turn)
    return found


def of_commit(commit: str) -> dict[str, int]:
    with tempfile.TemporaryDirectory() as folder:
        archive = subprocess.run(["git", "archive", commit], cwd=REPOSITORY, capture_output=True, check=True).stdout
        with tarfile.open(fileobj=io.BytesIO(archive)) as tree:
            tree.extractall(folder, filter="data")
        return asked(Path(folder))


def lost(before: dict[str, int], after: dict[str, int]) -> list[str]:
    """A line for each thing that is asked no longer or less often."""
    gone = [f"no longer asked: {name}" for name in before if name not in after]
    rarer = [
        f"asked in one of {after[name]} commits instead of one of {turn}: {name}"
        for name, turn in before.items()
        if turn < after.get(name, 0)
    ]
    return [*gone, *rarer]


def main() -> None:
    match sys.argv[1:]:
        case []:
            print(*(f"{turn}  {name}" for name, turn in asked(REPOSITORY).items()), sep="\n")
        case [before, *after] if len(after) <= 1:
            old, new = of_commit(before), of_commit(after[0]) if after else asked(REPOSITORY)
            problems = lost(old, new)
            print(*problems, sep="\n")
            more, often = len(new.keys() - old), sum(new.get(name, turn) < turn for name, turn in old.items())
            print(f"{len(old)} before, {len(new)} after: {len(problems)} lost, {more} new, {often} asked more often")
            raise SystemExit(1 if problems else 0)
        case _:
            raise SystemExit("usage: python -m lab.ci.asked [BEFORE [AFTER]]")


if __name__ == "__main__":
    main()
