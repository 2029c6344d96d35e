"""A program that Ansible asks: a verb, a list as JSON on standard input, the answer as JSON alone on standard output."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Mapping
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any, TypeVar

from lab.machine import Refusal, fail, give_back

Entry = TypeVar("Entry")


def serve(
    verbs: Mapping[str, Callable[[list[Entry]], object]], read: Callable[[dict[str, Any]], Entry], state: Path, why_root: str
) -> None:
    """Runs the verb that the command line names. state: where it keeps what it makes; read: what an entry of the list is."""
    if len(sys.argv) != 2 or sys.argv[1] not in verbs:
        fail(f"say one of {', '.join(verbs)}, with a list on standard input")
    if os.geteuid() != 0:
        fail(f"{why_root}: run it through make, which asks sudo.")
    state.mkdir(parents=True, exist_ok=True)
    try:
        entries = [read(entry) for entry in json.load(sys.stdin)]
        # What is built or installed on the way talks to standard output; the answer alone belongs there.
        with redirect_stdout(sys.stderr):
            answer = verbs[sys.argv[1]](entries)
        json.dump(answer, sys.stdout)
    except Refusal as refusal:
        fail(str(refusal))
    finally:
        give_back(state)
