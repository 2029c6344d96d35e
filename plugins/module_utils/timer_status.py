"""What `status` asks a host about its applications' timers."""

from __future__ import annotations

from . import bounded


def failed(application: str, timeout: float) -> list[dict[str, str]]:
    """The units whose last run failed, and why in systemd's word: exit-code, timeout, signal."""

    def systemctl(*arguments: str) -> str:
        return bounded.run(["systemctl", *arguments], timeout).stdout

    listed = systemctl("list-units", "--failed", "--plain", "--no-legend", f"grunnfjell-timer-{application}-*.service")
    units = [line.split()[0] for line in listed.splitlines()]
    return [{"unit": unit, "why": systemctl("show", unit, "--property", "Result", "--value").strip()} for unit in units]
