"""`python -m lab.demo`: provision a fleet, send real work through it, and report the results."""

from __future__ import annotations

import argparse
import json
import sys
import time
from dataclasses import asdict
from pathlib import Path

from lab.demo import fleet, jobs, traffic, videos
from lab.demo.backends import Backends
from lab.demo.figures import figures, table
from lab.demo.second_delivery import deliver_again
from lab.machine import BUILD, STATE, refusals_shown
from lab.playbooks import converge

ROUNDS = 4
NO_VIDEO = b"This is a letter to the editor, and no video.\n" * 100


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m lab.demo", description=__doc__)
    parser.add_argument("--inventory", default="inventories/lab")
    parser.add_argument("--no-converge", action="store_true", help="the fleet is provisioned already")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="how often each video is sent (default: %(default)s)")
    parser.add_argument("--figures", type=Path, default=BUILD / "demo.json", help="the file for the figures")
    arguments = parser.parse_args()
    with refusals_shown():
        problems = demo(arguments.inventory, arguments.no_converge, arguments.rounds, arguments.figures)
    for problem in problems:
        print(f"  ✗ {problem}", file=sys.stderr)
    sys.exit(1 if problems else 0)


def demo(inventory: str, converged: bool, rounds: int, file: Path) -> list[str]:
    hosts = fleet.read(inventory)
    converge_s = None if converged else converge(inventory)
    producers = hosts.group("producers")

    announce("making videos")
    films = videos.make(videos.VIDEOS, BUILD / "demo")
    letter = BUILD / "demo" / "letter.txt"
    letter.write_bytes(NO_VIDEO)
    uploads = [*films.items()] * rounds + [(None, letter)]

    announce(f"sending {len(uploads)} uploads to {', '.join(producer.url for producer in producers)}")
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
        records=[job.record for job in accepted],
        pg_backends_peak=backends.peak,
    )
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(asdict(result), indent=2) + "\n", encoding="utf-8")

    announce("checking the results")
    proofs, faults = prove(hosts, accepted, producers[0].url)
    print("\n" + table(result, took_s, proofs) + "\n", flush=True)
    return refused(sent, accepted) + outcomes(accepted) + faults


def refused(sent: list[jobs.Job], accepted: list[jobs.Job]) -> list[str]:
    return [
        f"{job.producer.name} answered {job.answer.status} to an upload: {job.answer.body}" for job in sent if job not in accepted
    ]


def outcomes(accepted: list[jobs.Job]) -> list[str]:
    """Each video must be done, and the letter failed with a reason; anything else is a problem."""
    problems = []
    for job in accepted:
        expected = "done" if job.video else "failed"
        if job.state != expected or (expected == "failed" and not job.record.get("reason")):
            problems.append(f"{job.answer.location} should be {expected}, and reports {job.record or 'nothing'}")
    return problems


def prove(hosts: fleet.Fleet, accepted: list[jobs.Job], producer: str) -> tuple[list[str], list[str]]:
    """Sentences about what was proved beyond the figures, and about what was not."""
    proofs, problems = [], []

    def check(proof: str, faults: list[str]) -> None:
        proofs.extend([] if faults else [proof])
        problems.extend(faults)

    finished = [job for job in accepted if job.video and job.state == "done"]
    check(
        f"{len(finished)} videos are H.264 that a browser plays, upright, in size, with their sound",
        [fault for job in finished for fault in faults_of(job)],
    )
    over = traffic.post(producer, b"x" * 65536, announced=traffic.OVER_ANY_LIMIT)
    refusal = "an upload over the size limit was refused before it was read (413)"
    check(refusal, expect(over, 413, "an upload over the size limit"))
    check("an empty upload was refused (400)", expect(traffic.post(producer, b""), 400, "an empty upload"))
    for job in accepted:
        if job.video is None and job.state == "failed":
            check(f"the letter, which is not a video, failed at once: “{job.record.get('reason')}”", [])
    if finished:
        check("a second delivery of a finished job changed nothing", deliver_again(hosts, finished[0]))
    return proofs, problems


def faults_of(job: jobs.Job) -> list[str]:
    assert job.video
    film = traffic.download(job.record["video_url"], BUILD / "demo" / "came-back.mp4")
    poster = traffic.download(job.record["poster_url"], BUILD / "demo" / "came-back.jpg")
    return videos.faults(job.video, film, poster)


def expect(answer: traffic.Answer, status: int, what: str) -> list[str]:
    return [] if answer.status == status else [f"{what} was answered {answer.status}, not {status}: {answer.body}"]


def created_s(path: Path = STATE / "created.json") -> float | None:
    """How long the creation of the hosts took, if this machine created them."""
    return json.loads(path.read_text(encoding="utf-8"))["create_s"] if path.exists() else None


def announce(step: str) -> None:
    print(f"▸ {step}", flush=True)


if __name__ == "__main__":
    main()
