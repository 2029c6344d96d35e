"""The figures and problems of the demo, from prepared answers instead of hosts."""

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


def job(state: str, video: videos.Video | None = videos.VIDEOS[0], status: int = 202, **answers: object) -> jobs.Job:
    answer = traffic.Answer(status, 0.01, "http://10.0.0.4:8000/videos/key", "")
    return jobs.Job(PRODUCER, answer, video, {"state": state} | answers)


def figures_of(*jobs: dict) -> figures.Figures:
    return figures.figures(
        hosts=5, create_s=None, converge_s=12.345, accept_s=[0.01, 0.03, 0.02], records=jobs, pg_backends_peak=4
    )


def test_accepted_jobs_that_never_ended_are_lost():
    counts = figures_of({"state": "done"}, {"state": "failed"}, {"state": "running"}, {"state": "queued"}, {})
    assert (counts.accepted, counts.done, counts.failed, counts.lost) == (5, 1, 1, 3)


@given(st.lists(st.sampled_from(jobs.STATES)))
def test_every_accepted_job_is_counted_once(states):
    counts = figures_of(*({"state": state} for state in states))
    assert counts.accepted == counts.done + counts.failed + counts.lost == len(states)


def test_a_wait_is_from_acceptance_to_a_worker():
    assert figures_of({"state": "done", "accepted_at": ACCEPTED, "started_at": STARTED}).wait_s_p50 == 1.5


def test_acceptance_is_in_milliseconds():
    empty = figures_of()
    assert (empty.accept_ms_p50, empty.accept_ms_p99) == (20.0, 30.0)


@given(st.lists(st.floats(0, 1e6), min_size=1), st.floats(1, 100))
def test_a_percentile_is_a_measured_value(values, percent):
    assert figures.percentile(values, percent) in values
    assert figures.percentile(values, 100) == max(values)


def test_the_table_fits_a_terminal_and_has_every_figure():
    text = figures.table(figures_of({"state": "done"}), 3.0, ["all is well"])
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


def test_hosts_are_read_from_the_output_of_ansible():
    host = {"groups": ["newsroom", "producers"], "address": "10.0.0.4", "user": "root", "key": "", "application": "newsroom"}
    host |= {"bind": "10.0.0.4:8000", "data": "/data", "logs": "/logs"}
    output = {"plays": [{"tasks": [{"hosts": {"web1": {"msg": host}}}]}]}
    (web1,) = fleet.parse("a warning\n" + json.dumps(output, indent=2))
    assert web1.url == "https://10.0.0.4:8000"
    assert fleet.Fleet([web1]).group("producers") == [web1]


def test_an_empty_group_is_named():
    with pytest.raises(fleet.Refusal, match="celery_workers"):
        fleet.Fleet([PRODUCER]).group("celery_workers")


def test_the_time_of_creation_is_unknown_if_hosts_were_not_created_here(tmp_path):
    path = tmp_path / "created.json"
    assert demo.created_s(path) is None
    path.write_text('{"create_s": 1.5, "hosts": 5}')
    assert demo.created_s(path) == 1.5


def probed(monkeypatch, tmp_path, *, pix_fmt="yuv420p", size=(640, 360), sound=(), seconds=2, atoms=b"moov mdat") -> list[str]:
    """The faults of the first video if ffprobe reports these streams."""
    streams = [{"codec_type": "video", "codec_name": "h264", "pix_fmt": pix_fmt, "width": size[0], "height": size[1]}]
    streams += [{"codec_type": "audio", "codec_name": name} for name in sound]
    poster = [{"codec_type": "video", "codec_name": "mjpeg", "width": 640, "height": 360}]

    def run(command: list[str], **_: object) -> subprocess.CompletedProcess:
        report = {"streams": poster if command[-1].endswith("jpg") else streams, "format": {"duration": str(seconds)}}
        return subprocess.CompletedProcess(command, 0, json.dumps(report), "")

    monkeypatch.setattr(subprocess, "run", run)
    video: Path = tmp_path / "video.mp4"
    video.write_bytes(atoms)
    return videos.faults(videos.VIDEOS[0], video, tmp_path / "poster.jpg")


def test_a_good_video_has_no_faults(monkeypatch, tmp_path):
    assert probed(monkeypatch, tmp_path) == []


@pytest.mark.parametrize(
    "fault", [{"pix_fmt": "yuv444p"}, {"size": (360, 640)}, {"sound": ["aac"]}, {"seconds": 1}, {"atoms": b"mdat moov"}]
)
def test_each_fault_is_found(monkeypatch, tmp_path, fault):
    assert len(probed(monkeypatch, tmp_path, **fault)) == 1
