"""An application's timers: the units that a run writes, starts and removes."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from ansible_collections.grunnfjell.platform.plugins.module_utils import bounded
from ansible_collections.grunnfjell.platform.plugins.modules import application_timers
from module_calls import call

NIGHTLY = {"name": "nightly", "command": ["python", "manage.py", 'say "100%" of $HOME'], "calendar": "03:30"}
UNIT = "grunnfjell-timer-shop-nightly"


class Host:
    """systemd in short: which timers run, and what it was asked."""

    def __init__(self, units: Path) -> None:
        self.units, self.running, self.calls = units, set(), []
        # Whether files differ from what it has read.
        self.unread = False

    def run(self, argv: list[str], timeout: float, **options: object) -> subprocess.CompletedProcess[str]:
        verb, *rest = argv[1:]
        code, out = 0, ""
        if argv[0] == "systemd-analyze":
            code = int("often" in argv)
            return subprocess.CompletedProcess(argv, code, "", "Failed to parse" * code)
        if verb == "show":
            state = ("active", "enabled") if rest[0] in self.running else ("inactive", "disabled")
            reload = "NeedDaemonReload=" + ("yes" if self.unread else "no")
            out = f"ActiveState={state[0]}\nUnitFileState={state[1]}\n{reload}\n\nActiveState=inactive\n{reload}\n"
        else:
            self.calls.append(" ".join(argv[1:]))
            if verb == "daemon-reload":
                self.unread = False
            elif verb == "restart":
                self.running.add(rest[0])
            elif verb == "disable":
                self.running.discard(rest[-1])
        return subprocess.CompletedProcess(argv, code, out, "")

    def schedule(self, *timers: dict, application: str = "shop", check_mode: bool = False) -> dict:
        self.calls.clear()
        return call(
            application_timers, check_mode, application=application, timers=list(timers), run="/opt/shop/current/run",
            user="www-data", confinement="[Service]\nNoNewPrivileges=yes\n",
        )  # fmt: skip

    @property
    def files(self) -> set[str]:
        return {str(path.relative_to(self.units)) for path in self.units.rglob("*") if path.is_file()}


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Host:
    fake = Host(tmp_path)
    monkeypatch.setattr(bounded, "run", fake.run)
    monkeypatch.setattr(application_timers, "UNITS", tmp_path)
    return fake


def test_a_timer_is_a_unit_and_its_times_and_the_next_run_changes_nothing(host: Host) -> None:
    assert host.schedule(NIGHTLY)["units"] == [UNIT] and host.running == {f"{UNIT}.timer"}
    service, timer = ((host.units / f"{UNIT}.{kind}").read_text() for kind in ("service", "timer"))
    assert r'ExecStart="/opt/shop/current/run" "python" "manage.py" "say \"100%%\" of $$HOME"' in service
    assert "WorkingDirectory=/opt/shop/current/src\n" in service
    assert "TimeoutStartSec=3600\n" in service and "User=www-data\n" in service and "OnCalendar=03:30\n" in timer
    assert not host.schedule(NIGHTLY)["changed"] and host.calls == []


def test_check_mode_writes_and_starts_nothing(host: Host) -> None:
    assert host.schedule(NIGHTLY, check_mode=True)["changed"] and host.files == set() and host.calls == []


def test_a_changed_time_restarts_the_timer_and_no_command(host: Host) -> None:
    host.schedule(NIGHTLY)
    assert host.schedule(NIGHTLY | {"calendar": "04:30"})["changed"]
    assert host.calls == ["daemon-reload", f"enable {UNIT}.timer", f"restart {UNIT}.timer"]


@pytest.mark.parametrize("left", ["service", "timer"])
def test_a_timer_that_leaves_the_inventory_is_removed_even_if_a_removal_was_cut_off(host: Host, left: str) -> None:
    host.schedule(NIGHTLY)
    host.schedule(NIGHTLY, application="shop_far")
    (host.units / f"{UNIT}.{'timer' if left == 'service' else 'service'}").unlink()
    assert host.schedule()["units"] == [UNIT] and host.running == {"grunnfjell-timer-shop_far-nightly.timer"}
    assert f"stop {UNIT}.service" in host.calls and {path.split(".")[0] for path in host.files} == {
        "grunnfjell-timer-shop_far-nightly"
    }


def test_a_timer_that_does_not_run_is_started_by_the_next_run(host: Host) -> None:
    host.schedule(NIGHTLY)
    host.running.clear()
    assert host.schedule(NIGHTLY)["changed"] and host.running == {f"{UNIT}.timer"}


def test_files_that_a_run_wrote_and_systemd_never_read_are_read_by_the_next_run(host: Host) -> None:
    host.schedule(NIGHTLY)
    host.unread = True
    assert host.schedule(NIGHTLY)["changed"] and host.calls[0] == "daemon-reload"
    assert not host.schedule(NIGHTLY)["changed"]


def test_times_that_systemd_cannot_read_are_refused_before_any_file_is_written(host: Host) -> None:
    result = host.schedule(NIGHTLY, {"name": "other", "command": ["true"], "calendar": "often"})
    assert result["failed"] and host.files == set()
    assert "the timer 'other' has the calendar 'often', which systemd cannot read (Failed to parse)" in result["msg"]
