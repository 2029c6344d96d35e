"""What the demo makes of what it saw. No host: a run's answers are given."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lab.demo import __main__ as demo
from lab.demo import figures, fleet, jobs, traffic, videos

PRODUCER = fleet.Host("web1", ("producers",), "10.0.0.4", "root", "", "newsroom", "10.0.0.4:8000", "/data", "/logs")
ACCEPTED, STARTED = "2026-11-24T10:00:00.000000+00:00", "2026-11-24T10:00:01.500000+00:00"


def job(state: str, video: videos.Video | None = videos.VIDEOS[0], status: int = 202, **told: object) -> jobs.Job:
    answer = traffic.Answer(status, 0.01, "http://10.0.0.4:8000/videos/key", "")
    return jobs.Job(PRODUCER, answer, video, {"state": state} | told)


def tell(*told: dict) -> figures.Figures:
    return figures.figures(
        hosts=5, create_s=None, converge_s=12.345, accept_s=[0.01, 0.03, 0.02], records=told, pg_backends_peak=4
    )


def test_lost_is_what_was_accepted_and_never_ended():
    seen = tell({"state": "done"}, {"state": "failed"}, {"state": "running"}, {"state": "queued"}, {})
    assert (seen.accepted, seen.done, seen.failed, seen.lost) == (5, 1, 1, 3)


@given(st.lists(st.sampled_from(jobs.STATES)))
def test_every_accepted_job_is_counted_once(states):
    seen = tell(*({"state": state} for state in states))
    assert seen.accepted == seen.done + seen.failed + seen.lost == len(states)


def test_a_wait_is_from_acceptance_to_a_worker():
    assert tell({"state": "done", "accepted_at": ACCEPTED, "started_at": STARTED}).wait_s_p50 == 1.5


def test_acceptance_is_told_in_milliseconds():
    seen = tell()
    assert (seen.accept_ms_p50, seen.accept_ms_p99) == (20.0, 30.0)


@given(st.lists(st.floats(0, 1e6), min_size=1), st.floats(1, 100))
def test_a_percentile_was_measured(values, percent):
    assert figures.percentile(values, percent) in values
    assert figures.percentile(values, 100) == max(values)


def test_the_table_fits_a_terminal_and_tells_every_figure():
    text = figures.table(tell({"state": "done"}), 3.0, ["all is well"])
    assert max(map(len, text.splitlines())) <= 80
    assert "converged in 12.3 s" in text and "created in –" in text and "✓ all is well" in text


def test_a_good_run_has_no_problems():
    assert demo.outcomes([job("done"), job("failed", video=None, reason="no video")]) == []


@pytest.mark.parametrize(
    "bad", [job("failed", reason="x"), job("running"), job("done", video=None), job("failed", video=None), job("unknown")]
)
def test_any_other_end_is_a_problem(bad):
    assert len(demo.outcomes([bad])) == 1


def test_an_upload_that_was_not_accepted_is_a_problem():
    good, bad = job("done"), job("", status=503)
    assert len(demo.refused([good, bad], [good])) == 1


def test_hosts_are_read_as_ansible_renders_them():
    host = {"groups": ["newsroom", "producers"], "address": "10.0.0.4", "user": "root", "key": "", "application": "newsroom"}
    said = {
        "plays": [{"tasks": [{"hosts": {"web1": {"msg": host | {"bind": "10.0.0.4:8000", "data": "/data", "logs": "/logs"}}}}]}]
    }
    (read,) = fleet.parse("a warning\n" + json.dumps(said, indent=2))
    assert read.url == "https://10.0.0.4:8000"
    assert fleet.Fleet([read]).group("producers") == [read]


def test_an_empty_group_is_named():
    with pytest.raises(fleet.Refusal, match="celery_workers"):
        fleet.Fleet([PRODUCER]).group("celery_workers")


def test_without_a_creation_on_this_machine_its_time_is_unknown(tmp_path):
    path = tmp_path / "created.json"
    assert demo.created_s(path) is None
    path.write_text('{"create_s": 1.5, "hosts": 5}')
    assert demo.created_s(path) == 1.5


def probed(monkeypatch, tmp_path, *, pix_fmt="yuv420p", size=(640, 360), sound=(), seconds=2, atoms=b"moov mdat") -> list[str]:
    """The faults that are found when ffprobe says this of the first video."""
    streams = [{"codec_type": "video", "codec_name": "h264", "pix_fmt": pix_fmt, "width": size[0], "height": size[1]}]
    streams += [{"codec_type": "audio", "codec_name": name} for name in sound]
    poster = [{"codec_type": "video", "codec_name": "mjpeg", "width": 640, "height": 360}]

    def run(command: list[str], **_: object) -> subprocess.CompletedProcess:
        said = {"streams": poster if command[-1].endswith("jpg") else streams, "format": {"duration": str(seconds)}}
        return subprocess.CompletedProcess(command, 0, json.dumps(said), "")

    monkeypatch.setattr(subprocess, "run", run)
    made: Path = tmp_path / "made.mp4"
    made.write_bytes(atoms)
    return videos.faults(videos.VIDEOS[0], made, tmp_path / "poster.jpg")


def test_a_good_video_has_no_faults(monkeypatch, tmp_path):
    assert probed(monkeypatch, tmp_path) == []


@pytest.mark.parametrize(
    "fault", [{"pix_fmt": "yuv444p"}, {"size": (360, 640)}, {"sound": ["aac"]}, {"seconds": 1}, {"atoms": b"mdat moov"}]
)
def test_each_fault_is_found(monkeypatch, tmp_path, fault):
    assert len(probed(monkeypatch, tmp_path, **fault)) == 1
