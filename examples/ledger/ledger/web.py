"""The producer: answers 202 once the broker has the job, and 503 if that is not certain."""

import uuid
from typing import Any

import psycopg
from flask import Flask, request

from ledger import book, journal
from ledger.tasks import app as celery
from ledger.tasks import enter

LONGEST_S = 500  # below the platform's soft time limit

app = Flask("ledger")


@app.post("/jobs")
def accept() -> tuple[dict[str, Any], int]:
    """A client that repeats a key, because an answer was lost, still gets one effect."""
    try:
        job = request.get_json()
        key, number = str(uuid.UUID(job.get("key") or str(uuid.uuid4()))), int(job["number"])
        seconds, poison = float(job.get("seconds", 0)), bool(job.get("poison", False))
    except (AttributeError, KeyError, TypeError, ValueError):
        return {"error": "A job is {number, seconds, poison, key}: a whole number, seconds, true or false, a UUID."}, 400
    if not 0 <= seconds <= LONGEST_S:
        return {"error": f"seconds is {seconds:g}; it must be between 0 and {LONGEST_S}."}, 400
    try:
        publish(key, number, seconds, poison)
        journal.write(key, number, seconds, poison)
    except Exception as error:
        app.logger.warning("%s was not confirmed by the broker: %s: %s", key, type(error).__name__, error)
        return {"error": "The job could not be queued. Please send it again.", "key": key}, 503
    return {"key": key}, 202


def publish(key: str, *job: object) -> None:
    with celery.producer_pool.acquire(block=True, timeout=2) as producer:
        try:
            enter.apply_async((key, *job), task_id=key, producer=producer)
        except Exception:
            # Do not use this connection again: a late confirm of this message could be taken for the next one's.
            producer.__connection__.collect()
            raise


@app.get("/jobs/<uuid:key>")
def state(key: uuid.UUID) -> tuple[dict[str, Any], int]:
    try:
        return {"key": str(key), "done": book.is_done(str(key))}, 200
    except psycopg.OperationalError:
        return {"error": "The state of the job is not available at the moment. The job is safe."}, 503


@app.get("/healthz")
def healthz() -> dict[str, str]:
    return {"status": "ok"}
