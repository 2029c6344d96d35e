"""A program for Ansible to run: a verb as its argument, a JSON list on standard input, only JSON on standard output."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Mapping
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any, TypeVar

from lab.machine import fail, refusals_shown

Entry = TypeVar("Entry")


def serve(
    verbs: Mapping[str, Callable[[list[Entry]], object]], read: Callable[[dict[str, Any]], Entry], state: Path, why_root: str
) -> None:
    """Run the verb of the command line. read: turns an entry of the list into an object; state: the directory of its files."""
    if len(sys.argv) != 2 or sys.argv[1] not in verbs:
        fail(f"give one of {', '.join(verbs)}, and a JSON list on standard input")
    if os.geteuid() != 0:
        fail(f"{why_root}: run it through make, which uses sudo.")
    state.mkdir(parents=True, exist_ok=True)
    with refusals_shown(state):
        entries = [read(entry) for entry in json.load(sys.stdin)]
        # Builds and installations print progress; only the answer belongs on standard output.
        with redirect_stdout(sys.stderr):
            answer = verbs[sys.argv[1]](entries)
        json.dump(answer, sys.stdout)
