"""The work. Every job ends in its row, or in the dead-letter queue where a person sees it."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import requests
from celery import Task
from celery.exceptions import SoftTimeLimitExceeded
from celery.utils.log import get_task_logger

from newsroom import files, media, results, settings, transfer
from newsroom.celery import app

log = get_task_logger(__name__)
conf = settings.load(os.environ)

# The producer, PgBouncer or PostgreSQL is away, or a disk is full: the same work can succeed later.
# psycopg raises InternalError ("received 2 results") if the server says goodbye while a command is being sent.
TRANSIENT = (psycopg.OperationalError, psycopg.InternalError, requests.RequestException, OSError)
RETRY_AFTER_S = 30
MAX_RETRIES = 20  # an outage of ten minutes needs a person

# The broker redelivers a video that kills its worker (out of memory, say). Below the platform's delivery limit, so the person who
# waits gets a reason before the broker gives up.
MAX_DELIVERIES = 5

# A video that needs more memory is tried once more, perhaps on another host: another process may have taken the memory.
MAX_OUT_OF_MEMORY = 2
OUT_OF_MEMORY = "newsroom_out_of_memory"  # header of a retry: how often this has happened


@app.task(bind=True, max_retries=MAX_RETRIES, ignore_result=True)
def transcode(self: Task, key: str, source_url: str) -> None:
    try:
        if (lost := deliveries(self)) > MAX_DELIVERIES:
            results.fail(key, f"The worker was lost {lost} times while working on this video.")
        elif results.start(key):
            results.finish(key, **work(key, source_url))
        else:
            log.info("%s has ended before; this delivery changes nothing", key)
    except (media.NotPlayable, transfer.Refused, files.TooLarge) as error:
        results.fail(key, str(error))
    except transfer.Gone:
        # Also for a message that was never confirmed: its upload was removed and nothing was promised.
        results.fail(key, "The upload is no longer on any producer.")
    except SoftTimeLimitExceeded:
        results.fail(key, f"Transcoding took longer than {self.request.timelimit[1] or app.conf.task_soft_time_limit} seconds.")
    except media.OutOfMemory as error:
        if (times := out_of_memory(self) + 1) >= MAX_OUT_OF_MEMORY:
            results.fail(key, "The video needs more memory than a worker has.")
        else:
            log.warning("%s: %s; again in %s s", key, error, RETRY_AFTER_S)
            raise self.retry(exc=error, countdown=RETRY_AFTER_S, headers={OUT_OF_MEMORY: times}) from error
    except TRANSIENT as error:
        if self.request.retries < MAX_RETRIES:
            log.warning("%s: %s; again in %s s", key, error, RETRY_AFTER_S)
            raise self.retry(exc=error, countdown=RETRY_AFTER_S) from error
        results.fail(key, f"Gave up after {MAX_RETRIES} retries: {type(error).__name__}.")
    # If a handler above fails (no database for the reason), the task ends with an exception. The platform then rejects the
    # message instead of acknowledging it (task_acks_on_failure_or_timeout = False), and the broker dead-letters it.


def work(key: str, source_url: str) -> dict[str, float]:
    places = transfer.places(source_url, conf.peer_urls)

    def deliver(result: Path) -> int:
        return transfer.at_first(places, lambda url: transfer.deliver(result, url, conf.token, conf.ca_file))

    with workspace(key) as folder:
        upload, video, poster = (folder / name for name in (files.UPLOAD, files.VIDEO, files.POSTER))
        transfer.at_first(places, lambda url: transfer.fetch(url, conf.token, upload, conf.max_upload_bytes, conf.ca_file))
        media.probe(upload)
        media.make_video(upload, video, conf.ffmpeg_threads)
        properties = media.probe(video)
        media.make_poster(video, poster, properties.duration_s)
        return {
            "width": properties.width,
            "height": properties.height,
            "duration_s": properties.duration_s,
            "video_bytes": deliver(video),
            "poster_bytes": deliver(poster),
        }


@contextmanager
def workspace(key: str) -> Iterator[Path]:
    parent = conf.data_dir / "work"
    parent.mkdir(parents=True, exist_ok=True)
    # Files of killed processes; no task runs for six hours.
    files.sweep(parent, older_than_s=6 * 3600)
    with tempfile.TemporaryDirectory(prefix=f"{key}-", dir=parent) as folder:
        yield Path(folder)


def out_of_memory(task: Task) -> int:
    """In how many attempts memory ran out."""
    return int((task.request.headers or {}).get(OUT_OF_MEMORY, 0))


def deliveries(task: Task) -> int:
    """How often this message was returned to the broker, as its quorum queue counts."""
    return int(getattr(task.request, "x-delivery-count", 0) or 0)
