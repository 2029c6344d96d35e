"""What an inventory says wrongly of the hosts' acceptance."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

# Ansible loads a plugin by its path, so a package that plugins share is not importable by itself.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from fleet.acceptance import problems


def acceptance_problems(exceptions: Any, exchange_address: Any) -> list[str]:
    """Sentences for exceptions of nothing, without a reason, and for a round trip that nobody could measure."""
    return problems(exceptions if isinstance(exceptions, dict) else {}, str(exchange_address or ""))


class FilterModule:
    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"acceptance_problems": acceptance_problems}
