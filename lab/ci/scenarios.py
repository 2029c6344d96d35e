"""Molecule's scenarios, and alongside them the steps that need no quiet."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from lab.ci.counts import Count
from lab.ci.runner import Step, environment, show_result
from lab.machine import BIN, BUILD, REPOSITORY, git, in_turn

# Each keeps about one core busy. With lanes of other steps they are three in all; a lane that has ended is the scenarios'.
PARALLEL, WITH_LANES = 2, 3
# Alongside `verify`, which runs the same tests on Debian 13 in the lab, a scenario needs only its other host. These need both:
# their tests compare two hosts, the lab does not have the role, or nobody has tried the scenario with one host.
BOTH_RELEASES = ("celery_worker", "firewall", "haproxy", "host", "pki", "producer", "residency", "supervisor")
BOTH_RELEASES += ("topology",)
NOT_IN_THE_LAB = "12"
# CI runs two or three scenarios, others with the next commit; all of them take hours. `make molecule` runs all.
SHARE = 8
# On a slow machine the last of them begins early enough for CI's 90 minutes.
LAST_START_S = 35 * 60
# Pairs of hosts that belong together and are of one release: the other release is for `molecule test` by hand.
ONE_PAIR = {"keepalived": "13", "pgbackrest": "13", "restic": "13"}
# They lose and replace hosts for twenty minutes each: `make test-clusters` runs them.
CLUSTERS = ("etcd", "patroni", "pgbackrest_cluster", "rabbitmq_cluster")


def scenarios() -> list[str]:
    """The longest first: the last one should not run alone for long, and each share has one of the longest eight."""
    longest = ["producer", "restic", "rabbitmq", "pgbackrest", "celery_worker", "postgresql", "pgbouncer", "application"]
    names = {path.parent.name for path in (REPOSITORY / "molecule").glob("*/molecule.yml")} - set(CLUSTERS)
    return sorted(names, key=lambda name: (longest.index(name) if name in longest else len(longest), name))


def run_scenario(name: str, release: str = "") -> Count:
    """`molecule test` of one scenario, on its hosts with this release of Debian, or on all. Its tests count individually, and the
    runs between them as one."""
    title = f"molecule {name} {release}".rstrip()
    verified, log = BUILD / f"molecule/{name}.jsonl", BUILD / f"molecule/{'-'.join(title.split()[1:])}.log"
    verified.unlink(missing_ok=True)
    started = time.monotonic()
    command = [str(BIN / "molecule"), "test", "--scenario-name", name]
    plain = {"MOLECULE_COMMAND_BORDERS": "0", "NO_COLOR": "1", "ANSIBLE_NOCOLOR": "1"}
    if release:
        plain["LAB_RELEASE"] = release
    with log.open("w", encoding="utf-8") as file:
        done = subprocess.run(
            command, cwd=REPOSITORY, env=environment() | plain, stdin=subprocess.DEVNULL, stdout=file, stderr=file, check=False
        )
    lines = verified.read_text(encoding="utf-8").splitlines() if verified.exists() else []
    result = sum((Count(**json.loads(line)) for line in lines), Count())
    if done.returncode == 0 and lines:
        result.passed += 1
    elif not result.failed:
        result.failed += 1
    result.seconds = time.monotonic() - started
    show_result(title, result, log)
    return result


def run_clusters() -> dict[str, Count]:
    """Each on both releases, one at a time: their tests have deadlines for an election, a restore, a member that is back."""
    (BUILD / "molecule").mkdir(parents=True, exist_ok=True)
    return {f"molecule {name} {release}": run_scenario(name, release) for release in ("13", "12") for name in CLUSTERS}


def run_scenarios(lanes: Sequence[Sequence[Step]], run_step: Callable[[Step, Path], Count]) -> dict[str, Count]:
    """The scenarios, or those due if `verify` tests the roles too; and meanwhile the lanes, each one step after another."""
    (BUILD / "molecule").mkdir(parents=True, exist_ok=True)
    verified = any(step.part == "verify" for lane in lanes for step in lane)
    every = scenarios()
    names = in_turn(every, git("rev-parse", "HEAD").strip(), SHARE) if verified else every
    together = max(PARALLEL, WITH_LANES if lanes else 0)
    others = "".join(f"; {', then '.join(step.name for step in lane)}" for lane in lanes)
    print(f"\n=== molecule{others}; {together} at a time, and the output of each is in build/molecule/", flush=True)

    def run_lane(lane: Sequence[Step]) -> dict[str, Count]:
        return {step.name: run_step(step, BUILD / f"molecule/{step.name}.log") for step in lane}

    if left := [name for name in every if name not in names]:
        print(f"    not due with this commit: {', '.join(left)}; `make molecule` runs all scenarios", flush=True)

    started = time.monotonic()

    def run_one(name: str) -> dict[str, Count]:
        if verified and time.monotonic() - started > LAST_START_S:
            print(f"    not begun within {LAST_START_S // 60} minutes, so not due either: {name}", flush=True)
            return {}
        release = ONE_PAIR.get(name, NOT_IN_THE_LAB) if verified and name not in BOTH_RELEASES else ""
        return {f"molecule {name}": run_scenario(name, release)}

    with ThreadPoolExecutor(together) as pool:
        results = [pool.submit(run_lane, lane) for lane in lanes] + [pool.submit(run_one, name) for name in names]
        return dict(result for ended in results for result in ended.result().items())
