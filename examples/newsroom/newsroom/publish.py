"""Publishes a job. Either the broker confirms it, or NotConfirmed is raised within the deadline."""

from concurrent.futures import ThreadPoolExecutor

from newsroom.celery import app
from newsroom.tasks import transcode

# The client gets its 503 within five seconds. The connection's own timeouts are shorter; this bounds their sum.
DEADLINE_S = 4.5
SHORTEST_S = 1

_publishers = ThreadPoolExecutor(max_workers=8, thread_name_prefix="publish")


class NotConfirmed(Exception):
    pass


def publish(key: str, source_url: str, spent_s: float = 0) -> None:
    """`spent_s`: how long the client has waited for other hosts before this."""
    sending = _publishers.submit(_send, key, source_url)
    try:
        sending.result(timeout=max(DEADLINE_S - spent_s, SHORTEST_S))
    except Exception as error:
        sending.cancel()  # a publish that has begun runs to its end; the worker copes with a message whose upload is gone
        raise NotConfirmed(f"{type(error).__name__}: {error}") from error


def _send(key: str, source_url: str) -> None:
    with app.producer_pool.acquire(block=True) as producer:
        try:
            # The key is also the task's id, which the worker's log and `celery inspect` show.
            transcode.apply_async((key, source_url), task_id=key, producer=producer)
        except Exception:
            # Do not use this connection again: a late confirm of this message could be taken for the next one's.
            producer.__connection__.collect()
            raise
