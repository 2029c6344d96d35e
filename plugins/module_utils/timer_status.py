"""What `status` asks a host about its applications' timers."""

from __future__ import annotations

from . import bounded


def failed(application: str, timeout: float) -> list[dict[str, str]]:
    """The units whose last run failed, and why in systemd's word: exit-code, timeout, signal."""
    # In one call: a second one could meet the next run.
    asked = ["systemctl", "show", f"grunnfjell-timer-{application}-*.service", "--property", "Id,ActiveState,Result"]
    units = [dict(line.split("=", 1) for line in part.splitlines()) for part in bounded.run(asked, timeout).stdout.split("\n\n")]
    return [{"unit": unit["Id"], "why": unit["Result"]} for unit in units if unit.get("ActiveState") == "failed"]
