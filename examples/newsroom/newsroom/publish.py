"""Hands a job to the broker. Either the broker has confirmed it, or NotConfirmed is raised within the deadline."""

from concurrent.futures import ThreadPoolExecutor

from newsroom.celery import app
from newsroom.tasks import transcode

# The client gets its 503 within five seconds. The connection's own timeouts are shorter; this bounds their sum.
DEADLINE_S = 4.5

_publishers = ThreadPoolExecutor(max_workers=8, thread_name_prefix="publish")


class NotConfirmed(Exception):
    pass


def publish(key: str, source_url: str) -> None:
    sending = _publishers.submit(_send, key, source_url)
    try:
        sending.result(timeout=DEADLINE_S)
    except Exception as error:
        sending.cancel()  # what has begun runs to its end; the worker copes with a message whose upload is gone
        raise NotConfirmed(f"{type(error).__name__}: {error}") from error


def _send(key: str, source_url: str) -> None:
    with app.producer_pool.acquire(block=True) as producer:
        try:
            # The key as the task's id: the worker's log and `celery inspect` then name the job as its client does.
            transcode.apply_async((key, source_url), task_id=key, producer=producer)
        except Exception:
            # On this connection a late confirm for this message could pass for the next one's. It is not used again.
            producer.__connection__.collect()
            raise
