"""The figures of the status: what a host reads of its services, and what the report derives from it."""

import subprocess
import time

import pytest
from ansible_collections.grunnfjell.platform.plugins.module_utils import bounded, timer_status
from ansible_collections.grunnfjell.platform.plugins.modules import platform_status
from ansible_collections.grunnfjell.platform.plugins.plugin_utils.reports.status import peer
from ansible_collections.grunnfjell.platform.plugins.plugin_utils.reports.work_rates import Rates, drain, is_work, span
from hypothesis import given
from hypothesis import strategies as st


def test_the_time_to_drain_names_the_rates_behind_it():
    assert drain(0, None)["drain_s"] == 0.0
    assert drain(5, None)["drain_s"] is None
    assert "no job finished within 1 s" in drain(5, Rates(1.0, 0.0, 0.0))["sentence"]
    shrinking = drain(120, Rates(60.0, 3.0, 1.0))
    assert (shrinking["drain_s"], shrinking["drain_without_arrivals_s"]) == (60.0, 40.0)
    growing = drain(120, Rates(60.0, 1.0, 3.0))
    assert growing["drain_s"] is None and "does not shrink; 2 min if nothing more arrived" in growing["sentence"]


@given(st.integers(1, 10**6), st.floats(0.01, 1e3), st.floats(0.0, 1e3))
def test_a_backlog_drains_no_faster_than_without_arrivals(backlog, ended, came):
    estimate = drain(backlog, Rates(60.0, ended, came))
    assert (estimate["drain_s"] is None) == (ended <= came)
    if estimate["drain_s"] is not None:
        assert estimate["drain_s"] >= estimate["drain_without_arrivals_s"] - 0.1


@pytest.mark.parametrize("name", ["shop", "mail", "celery", "a.celery.pidbox.not"])
def test_queues_of_an_application_count_as_work(name):
    assert is_work(name)


@pytest.mark.parametrize(
    "name",
    ["dead_letters", "celery_delayed_27", "w@h.celery.pidbox", "celeryev.1", "celeryev", "90319a2a-a456-3627-92b2-9396d8169a30"],
)
def test_internal_queues_of_celery_do_not_count_as_work(name):
    assert not is_work(name)


def test_a_peer_is_known_by_its_address():
    assert peer("10.0.0.4:4711 -> 10.0.0.2:5671 (1)") == "10.0.0.4"
    assert peer("[fd00::4]:4711 -> [fd00::2]:5671 (1)") == "fd00::4"
    assert peer("[::ffff:10.0.0.4]:4711 -> [::]:5671 (1)") == "10.0.0.4"


def test_a_span_is_readable():
    spans = {0: "0 s", 0.25: "0.25 s", 42: "42 s", 600: "10 min", 7200 * 3: "6.0 h", 86400 * 9: "9 d"}
    assert {seconds: span(seconds) for seconds in spans} == spans


def test_pgbouncers_tables_become_figures():
    pool = {"database": "shop", "user": "shop", "cl_active": "2", "cl_waiting": "3", "sv_active": "1", "sv_idle": "2"}
    pool |= {"sv_used": "0", "sv_tested": "0", "sv_login": "0", "maxwait": "1", "maxwait_us": "500000"}
    figures = platform_status.bouncer_figures(
        [pool, {**pool, "database": "pgbouncer"}], [{"database": "shop", "avg_wait_time": "2500"}]
    )
    assert [pool["longest_wait_s"] for pool in figures["pools"]] == [1.5]
    assert figures["average_wait_s"] == 0.0025


def test_a_section_that_fails_is_an_error_of_that_section():
    assert "supervisord does not answer on /nowhere" in platform_status.ask("programs", {"socket": "/nowhere"})["error"]
    assert "no release is installed" in platform_status.ask("application", {"name": "nothing-of-that-name"})["error"]


def test_a_command_that_takes_too_long_ends_with_its_children():
    began = time.monotonic()
    with pytest.raises(subprocess.TimeoutExpired):
        bounded.run(["sh", "-c", "sleep 30 & wait"], 0.3)
    assert time.monotonic() - began < 10
    assert bounded.run(["sh", "-c", "cat; echo b >&2; exit 3"], 10, "a").returncode == 3


@pytest.mark.parametrize(
    ("shown", "failed"),
    [
        ("", []),
        ("Id=a.service\nActiveState=inactive\nResult=success\n", []),
        (
            "Id=a.service\nActiveState=activating\nResult=success\n\nId=b.service\nActiveState=failed\nResult=timeout\n",
            [{"unit": "b.service", "why": "timeout"}],
        ),
    ],
)
def test_a_timer_counts_as_failed_until_its_next_run_begins(answer, shown, failed):
    calls = answer(out=shown)
    assert timer_status.failed("shop", 5) == failed and len(calls) == 1
