"""Applications whose schedule nobody sends, or more than one beat."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from .status_text import listed

if TYPE_CHECKING:
    from .status import StatusReport


def running_beats(status: StatusReport) -> dict[str, list[dict[str, Any]]]:
    """Application to the host and process of each of its running beats."""
    beats: dict[str, list[dict[str, Any]]] = {info.application: [] for info in status.hosts.values() if info.application}
    for host, answer in sorted(status.answered("beats").items()):
        for beat in answer["running"]:
            if (name := application_of(status, host, beat)) in beats:
                beats[name].append({"host": host, "pid": beat["pid"]})
    return beats


def application_of(status: StatusReport, host: str, beat: dict[str, Any]) -> str:
    """By the directory that it runs from, else by its Celery application, which a person may have installed anywhere."""
    if beat["application"] or not beat["app"]:
        return beat["application"] or status.hosts[host].application
    infos = [status.hosts[host], *status.hosts.values()]
    return next((info.application for info in infos if info.celery_app and package(info.celery_app) == package(beat["app"])), "")


def package(app: str) -> str:
    """shop of shop.celery, and of shop:app."""
    return app.replace(":", ".").partition(".")[0]


def beats_attention(status: StatusReport, beats: dict[str, list[dict[str, Any]]]) -> Iterator[str]:
    for name, running in beats.items():
        carriers = [host for host, info in status.hosts.items() if info.application == name]
        scheduled = [host for host in carriers if status.hosts[host].beat]
        places = listed(f"process {beat['pid']} on {beat['host']}" for beat in running)
        if len(running) > 1:
            keep = f"all but the one on {listed(scheduled)}" if scheduled else "all but one"
            yield f"{name} has {len(running)} running beats ({places}), and each sends every scheduled task: stop {keep}"
        elif running and scheduled and running[0]["host"] not in scheduled:
            yield (
                f"the beat of {name} is {places}, but the inventory has it on {listed(scheduled)} (celery_worker_beat): stop it, "
                f"and start celery-beat there"
            )
        # The beat may run on a host that did not answer.
        elif scheduled and not running and all(host in status.answered("beats") for host in carriers):
            where = listed(scheduled)
            yield f"{name} has a schedule and no running beat, so no scheduled task is sent: start celery-beat on {where}"
