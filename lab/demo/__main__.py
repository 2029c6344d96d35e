"""`python -m lab.demo`: provision a fleet, send real work through it, and say what became of it."""

from __future__ import annotations

import argparse
import json
import sys
import time
from dataclasses import asdict
from pathlib import Path

from lab.demo import fleet, jobs, traffic, videos
from lab.demo.again import deliver_again
from lab.demo.backends import Backends
from lab.demo.converge import converge
from lab.demo.figures import figures, table
from lab.machine import REPOSITORY, STATE, Refusal, fail

BUILD = REPOSITORY / "build"
ROUNDS = 4
NO_VIDEO = b"This is a letter to the editor, and no video.\n" * 100


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m lab.demo", description=__doc__)
    parser.add_argument("--inventory", default="inventories/lab")
    parser.add_argument("--no-converge", action="store_true", help="the fleet stands as its inventory says")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="how often each video is sent")
    parser.add_argument("--figures", type=Path, default=BUILD / "demo.json", help="where the figures go")
    arguments = parser.parse_args()
    try:
        problems = demo(arguments.inventory, arguments.no_converge, arguments.rounds, arguments.figures)
    except Refusal as refusal:
        fail(str(refusal))
    for problem in problems:
        print(f"  ✗ {problem}", file=sys.stderr)
    sys.exit(1 if problems else 0)


def demo(inventory: str, converged: bool, rounds: int = ROUNDS, file: Path = BUILD / "demo.json") -> list[str]:
    hosts = fleet.read(inventory)
    converge_s = None if converged else converge(inventory)
    producers = hosts.group("producers")

    say("making videos")
    made = videos.make(videos.VIDEOS, BUILD / "demo")
    letter = BUILD / "demo" / "letter.txt"
    letter.write_bytes(NO_VIDEO)
    uploads = [*made.items()] * rounds + [(None, letter)]

    say(f"sending {len(uploads)} uploads to {', '.join(producer.url for producer in producers)}")
    began = time.monotonic()
    with Backends(hosts.group("postgresql")[0], producers[0].application) as backends:
        sent = jobs.send(uploads, producers)
        accepted = [job for job in sent if job.answer.status == 202]
        jobs.watch(accepted)
    took_s = time.monotonic() - began

    result = figures(
        hosts=len(hosts.hosts),
        create_s=created_s(),
        converge_s=converge_s,
        accept_s=[job.answer.seconds for job in accepted],
        told=[job.told for job in accepted],
        pg_backends_peak=backends.peak,
    )
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(asdict(result), indent=2) + "\n", encoding="utf-8")

    problems = refused(sent, accepted) + outcomes(accepted)
    say("looking at what came back")
    proofs, found = prove(hosts, accepted, producers[0].url)
    print("\n" + table(result, took_s, proofs) + "\n", flush=True)
    return problems + found


def refused(sent: list[jobs.Job], accepted: list[jobs.Job]) -> list[str]:
    return [
        f"{job.producer.name} answered {job.answer.status} to an upload: {job.answer.body}" for job in sent if job not in accepted
    ]


def outcomes(accepted: list[jobs.Job]) -> list[str]:
    """Each video must be done and the letter failed with a reason; everything else is a problem."""
    problems = []
    for job in accepted:
        wanted = "done" if job.video else "failed"
        if job.state != wanted or (wanted == "failed" and not job.told.get("reason")):
            problems.append(f"{job.answer.location} should be {wanted}, and tells {job.told or 'nothing'}")
    return problems


def prove(hosts: fleet.Fleet, accepted: list[jobs.Job], producer: str) -> tuple[list[str], list[str]]:
    """What was shown beyond the figures, and what was not."""
    proofs, problems = [], []

    def judge(proof: str, found: list[str]) -> None:
        proofs.extend([] if found else [proof])
        problems.extend(found)

    finished = [job for job in accepted if job.video and job.state == "done"]
    judge(
        f"{len(finished)} videos are H.264 that a browser plays, upright, in size, with their sound",
        [f for job in finished for f in fetched(job)],
    )
    over = traffic.post(producer, b"x" * 65536, announced=traffic.OVER_ANY_LIMIT)
    judge(
        "an upload over the size limit was refused before it was read (413)", expect(over, 413, "an upload over the size limit")
    )
    judge("an empty upload was refused (400)", expect(traffic.post(producer, b""), 400, "an empty upload"))
    for job in accepted:
        if job.video is None and job.state == "failed":
            judge(f"what is no video failed at once: “{job.told.get('reason')}”", [])
    if finished:
        judge("a second delivery of a finished job changed nothing", deliver_again(hosts, finished[0]))
    return proofs, problems


def fetched(job: jobs.Job) -> list[str]:
    assert job.video
    made = traffic.download(job.told["video_url"], BUILD / "demo" / "came-back.mp4")
    poster = traffic.download(job.told["poster_url"], BUILD / "demo" / "came-back.jpg")
    return videos.faults(job.video, made, poster)


def expect(answer: traffic.Answer, status: int, what: str) -> list[str]:
    return [] if answer.status == status else [f"{what} was answered {answer.status}, not {status}: {answer.body}"]


def created_s(path: Path = STATE / "created.json") -> float | None:
    """What the creation of the hosts took, if this machine created them."""
    return json.loads(path.read_text(encoding="utf-8"))["create_s"] if path.exists() else None


def say(what: str) -> None:
    print(f"▸ {what}", flush=True)


if __name__ == "__main__":
    main()
