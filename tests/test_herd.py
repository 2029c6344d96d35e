"""The thundering herd's figures, verdict and page, without a fleet."""

import re
import sys
import xml.etree.ElementTree as ElementTree
from dataclasses import replace
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lab import plot
from lab.herd import evidence, figures, page, report, sweep
from lab.herd.arms import BOUNCER, DIRECT
from lab.herd.evidence import Failed, Finished

ROOT = Path(__file__).resolve().parent.parent
COUNT = {"accepted": 4, "done": 4, "lost": 0, "second_deliveries": 1, "double_effects": 0}
RUN = figures.Run(
    name=BOUNCER.name, processes=240, began=1000.0, count=COUNT, done=[1002.1, 1002.4, 1003.0, 1004.1],
    finished=[Finished(1002.1 + number, 3.0, 2.0, float(number)) for number in range(4)],
    failed=[], refusals=[], backends=[(1000.2, 0.0), (1002.3, 60.0), (1002.6, 75.0), (1004.0, 40.0)],
    server_processes=[(1000.2, 0.0), (1002.6, 80.0)],
)  # fmt: skip
REFUSED = replace(
    RUN, name=DIRECT.name, done=[1002.1, 1003.0, 1009.0, 1012.1], failed=[Failed(1002.5, evidence.NO_PLACE)] * 3,
    refusals=[1002.5] * 3, backends=[(1002.3, 197.0)],
)  # fmt: skip
FACTS = {"cap": 108, "granted": 197, "refusal": "240 may come, and 197 are <granted>.", "conditions": "Each job opens one."}


def report_of(bouncer: figures.Run = RUN, direct: figures.Run = REFUSED, asked: int = 4) -> dict:
    return report.report_data(bouncer, direct, FACTS, began=1000.0, sent=asked)


# What tasks and PostgreSQL wrote


def test_a_job_records_how_long_it_waited_or_why_it_was_refused():
    finished, failed = evidence.parse(
        [
            "1000.5\tdone\t3.5\t1.25\t4",
            '1001.0\tfailed\tconnection to server at "10.77.0.171", port 5432 failed: FATAL:  remaining connection '
            "slots are reserved for roles with the SUPERUSER attribute",
            "1001.1\tfailed\tconnection failed: FATAL:  sorry, too many clients already",
            "1001.2\tfailed\tconnection timeout expired",
            "1001.3\tfailed\tconnection failed: FATAL:  query_wait_timeout",
        ]
    )
    assert finished == [Finished(1000.5, 3.5, 1.25, 4.0)] and finished[0].database_ms == 8.75
    assert evidence.reasons(failed) == {
        evidence.NO_PLACE: 2, "no connection within the client's 5 s": 1, "query_wait_timeout": 1,
    }  # fmt: skip


def test_the_log_of_the_server_is_read_in_utc():
    assert evidence.moment("2026-11-24 17:30:29.250 UTC") == pytest.approx(1795541429.25)
    with pytest.raises(ValueError, match="CET"):
        evidence.moment("2026-11-24 17:30:29.250 CET")


# Figures and time lines


def test_the_rate_counts_the_work_and_the_drain_counts_from_the_start():
    result = figures.figures(RUN)
    assert result["jobs_per_s"] == 1.5  # three more jobs within the two seconds after the first
    assert result["drain_s"] == 4.1
    assert result["peak_backends"] == 75 and result["peak_server_processes"] == 80
    assert result["transaction_ms"] == {"p50": 1.0, "p99": 3.0}
    assert result["database_ms"] == {"p50": 6.0, "p99": 8.0}


def test_a_run_without_jobs_has_figures_too():
    nothing = replace(RUN, done=[], finished=[], backends=[], count=COUNT | {"done": 0, "lost": 4})
    assert figures.figures(nothing)["jobs_per_s"] == 0.0
    assert figures.time_line(nothing)["left"] == [4]


def test_the_time_line_has_a_value_for_each_second_or_none():
    line = figures.time_line(RUN)
    assert line["backends"] == [0, None, 75, None, 40]
    assert line["done"] == [0, 0, 2, 1, 1] and line["left"] == [4, 4, 2, 1, 0]
    assert line["transaction_p99_ms"] == [None, None, 0.0, 1.0, 2.0]
    assert figures.time_line(REFUSED)["failed"][2] == 3


@given(st.lists(st.floats(0, 500), max_size=60))
def test_every_job_that_is_done_leaves_the_queue(seconds):
    run = replace(RUN, done=[1000.0 + second for second in seconds], count=COUNT | {"accepted": len(seconds)})
    left = figures.time_line(run)["left"]
    assert left[-1] == 0 and left == sorted(left, reverse=True)


@given(st.lists(st.tuples(st.floats(1000, 1004.99), st.integers(0, 200)), min_size=1))
def test_no_sample_is_higher_than_the_peaks(samples):
    assert max(value or 0 for value in figures.peaks(samples, 1000.0, 5)) == max(count for _, count in samples)


# The verdict


def broken(bouncer: figures.Run = RUN, direct: figures.Run = REFUSED, asked: int = 4) -> list[str]:
    return [line["says"] for line in report_of(bouncer, direct, asked)["verdict"] if not line["holds"]]


def test_a_sound_run_keeps_the_promise():
    assert broken() == [] and report_of()["kept"] is True


@pytest.mark.parametrize(
    ("bouncer", "direct", "says"),
    [
        ({"processes": 199}, {}, "199 worker processes"),
        ({"backends": [(1002.0, 109.0)]}, {}, "at most 109 backends; the planned maximum is 108"),
        ({"failed": [Failed(1002.0, "x")]}, {}, "with PgBouncer: 1 connections failed"),
        ({"done": [1002.0, 1003.0, 1020.0, 1030.0]}, {}, "PgBouncer must not be slower"),
        ({}, {"failed": [], "refusals": [], "done": RUN.done}, "nothing failed or got worse"),
        ({"count": COUNT | {"done": 3, "lost": 1}}, {}, "with PgBouncer: of 4 accepted jobs 3 are done"),
        ({}, {"count": COUNT | {"done": 3, "lost": 1}}, "straight to PostgreSQL: of 4 accepted jobs 3 are done"),
        ({}, {"count": COUNT | {"double_effects": 2}}, "2 effects happened twice"),
    ],
)
def test_each_breach_is_a_sentence_and_breaks_the_promise(bouncer, direct, says):
    (sentence,) = broken(replace(RUN, **bouncer), replace(REFUSED, **direct))
    assert says in sentence
    assert report_of(replace(RUN, **bouncer), replace(REFUSED, **direct))["kept"] is False


def test_a_run_with_fewer_jobs_than_requested_breaks_the_promise():
    assert "of 20,000 that were sent" in broken(asked=20_000)[0]


def test_slower_counts_as_worse_where_nothing_failed():
    slow = replace(REFUSED, failed=[], refusals=[])
    assert "jobs per second instead of" in figures.degraded(figures.figures(RUN), figures.figures(slow))
    waiting = replace(RUN, finished=[replace(job, connect_ms=900.0) for job in RUN.finished])
    assert "waited 0.9 s for its database" in figures.degraded(figures.figures(RUN), figures.figures(waiting))


# The page


def test_the_page_is_one_file_that_loads_nothing():
    text = page.page(report_of())
    assert not re.search(r"https?:|src=|href=|url\(|@import|<script", text)
    assert "197 are &lt;granted&gt;" in text and "Every check holds." in text
    drawings = re.findall(r"<svg.*?</svg>", text, re.DOTALL)
    assert len(drawings) == 6
    for drawing in drawings:
        ElementTree.fromstring(drawing)
    assert "A check failed." in page.page(report_of(asked=20_000))


def test_the_file_has_the_promised_figures():
    wanted = {"peak_backends", "failed_connections", "jobs_per_s", "transaction_ms", "drain_s"}
    assert all(wanted <= set(arm) for arm in report_of()["arms"])


@given(st.floats(0.1, 1e6))
def test_an_axis_ends_just_above_what_it_shows(most):
    end = plot.nice(most)
    assert most <= end * (1 + 1e-9) and end <= most * 2.5 * (1 + 1e-9)


@given(st.lists(st.lists(st.none() | st.floats(0, 1e5), max_size=30), min_size=1, max_size=4), st.booleans())
def test_every_point_lies_within_the_plot(values, logarithmic):
    drawing = plot.plot([plot.Line(line, "done") for line in values], logarithmic=logarithmic)
    points = [pair.split(",") for line in drawing["lines"] for pair in line["points"].split()]
    assert len(points) == sum(value is not None for line in values for value in line)
    assert all(0 <= float(x) <= 100 and 0 <= float(y) <= 100 for x, y in points)


def test_a_gap_cuts_the_line():
    assert plot.segments([1.0, None, 2.0, 3.0]) == [[(0, 1.0)], [(2, 2.0), (3, 3.0)]]


# Comparison of settings


def test_a_median_is_taken_of_each_figure():
    runs = [figures.figures(RUN) | {"jobs_per_s": rate, "connect_ms": {"p50": rate, "p99": 1.0}} for rate in (10.0, 30.0, 20.0)]
    median = sweep.median(runs)
    assert sweep.median([runs[0] | {"failed_connections": failed} for failed in (0, 28, 0)])["failed_connections"] == 28
    assert median["jobs_per_s"] == 20.0 and median["connect_ms"] == {"p50": 20.0, "p99": 1.0} and median["name"] == RUN.name


def test_the_arms_of_a_sweep_have_different_names_and_settings():
    for arms in sweep.SWEEPS.values():
        assert len({arm.name for arm in arms}) == len(arms)
        assert len({(*arm.extra_vars, arm.stagger_s) for arm in arms}) == len(arms)


# The application writes a line for each run, if it has a file to write to


@pytest.fixture
def ledger(monkeypatch, tmp_path):
    """ledger.book and ledger.watch with the parts of psycopg that they use."""
    opened: list[SimpleNamespace] = []

    class Connection(SimpleNamespace):
        def __enter__(self):
            return self

        def __exit__(self, *_):
            self.close()

        def close(self):
            self.closed = True

    def connect(conninfo, **_):
        opened.append(Connection(conninfo=conninfo, closed=False))
        return opened[-1]

    psycopg = ModuleType("psycopg")
    psycopg.connect, psycopg.Connection = connect, Connection
    monkeypatch.setitem(sys.modules, "psycopg", psycopg)
    monkeypatch.syspath_prepend(str(ROOT / "examples" / "ledger"))
    for name in ("ledger", "ledger.book", "ledger.watch"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    from ledger import book, watch

    yield SimpleNamespace(book=book, watch=watch, opened=opened)
    for name in ("ledger", "ledger.book", "ledger.watch"):
        sys.modules.pop(name, None)


def test_each_job_opens_a_connection_and_closes_it(ledger):
    for _ in range(2):
        with ledger.book.opened() as db:
            assert not db.closed
    assert [connection.closed for connection in ledger.opened] == [True, True]


def test_a_process_that_keeps_its_connection_opens_another_only_after_trouble(ledger, monkeypatch):
    monkeypatch.setattr(ledger.book, "KEPT", True)
    for _ in range(2):
        with ledger.book.opened():
            pass
    assert len(ledger.opened) == 1
    with pytest.raises(RuntimeError), ledger.book.opened():
        raise RuntimeError
    with ledger.book.opened():
        pass
    assert [connection.closed for connection in ledger.opened] == [True, False]


def test_the_lines_of_the_application_are_read_by_the_report(ledger, monkeypatch, tmp_path):
    ledger.watch.record("done", 1.0, 2.0, 3.0)
    assert not list(tmp_path.iterdir())
    monkeypatch.setattr(ledger.watch, "FILE", str(tmp_path / "watch"))
    with ledger.watch.Timed() as timed:
        pass
    ledger.watch.record("done", timed.ms, 2.0, 3.0)
    ledger.watch.record("failed", "FATAL: too many clients\nalready")
    finished, failed = evidence.parse((tmp_path / "watch").read_text().splitlines())
    assert len(finished) == len(failed) == 1 and failed[0].why == evidence.NO_PLACE
