"""The producer: accepts uploads, answers 202 once the broker has the job, reports its state, serves its results."""

import logging
import os
import tempfile
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import psycopg
from flask import Flask, Request, Response, abort, jsonify, request, send_file
from werkzeug.exceptions import HTTPException

from newsroom import auth, files, keys, results, settings
from newsroom.copies import WITHDRAWN, Copies
from newsroom.publish import NotConfirmed, publish

RETRY_AFTER_S = 5
FORM = "multipart/form-data"  # its last boundary shows that it is complete
# Bytes that a multipart body adds to its file: boundaries and headers.
FORM_OVERHEAD = 64 * 1024

conf = settings.load(os.environ)
if not conf.internal_url:
    raise settings.SettingsError("NEWSROOM_INTERNAL_URL must say how the workers reach this host, e.g. http://10.0.0.4:8000.")
store = files.Store(conf.data_dir)
copies = Copies(conf, store)
copies.start()
app = Flask("newsroom")
log = logging.getLogger("gunicorn.error")


class Upload(Request):
    """Writes the file of a form directly to the disk of the uploads."""

    def _get_file_stream(self, *_: Any, **__: Any) -> Any:
        store.incoming.mkdir(parents=True, exist_ok=True)
        return tempfile.TemporaryFile("rb+", dir=store.incoming)


app.request_class = Upload


@app.post("/videos")
def accept() -> tuple[Response, int, dict[str, str]]:
    request.max_content_length = conf.max_upload_bytes + FORM_OVERHEAD
    with store.receive() as received:
        try:
            size = files.write(body(), received, conf.max_upload_bytes)
        except files.TooLarge:
            abort(413)
        if size == 0:
            abort(400, "The upload is empty.")
        refuse_part(size)
        key = keys.new_key()
        store.keep(received, key, files.UPLOAD)
    began = time.monotonic()
    copied = copies.hand_over(key, files.UPLOAD)
    # Peers that are away use up the client's time; the copy of a large upload may take longer.
    spent_s = 0 if copied else time.monotonic() - began
    try:
        publish(key, f"{conf.internal_url}/internal/videos/{key}/{files.UPLOAD}", spent_s)
    except NotConfirmed as error:
        store.forget(key)
        copies.owe(key, WITHDRAWN)
        log.warning("%s was not confirmed by the broker: %s", key, error)
        abort(503, "The upload could not be queued. Please send it again.")
    if not copied:
        copies.owe(key, files.UPLOAD)
    location = url(f"/videos/{key}")
    return jsonify(key=key, state="queued", location=location), 202, {"Location": location}


def body() -> Iterator[bytes]:
    if request.mimetype == FORM:
        parts = list(request.files.values())
        if len(parts) != 1:
            abort(400, f"The form must hold one file; it holds {len(parts)}.")
        stream = parts[0].stream
    else:
        stream = request.stream
    while chunk := stream.read(files.CHUNK):
        yield chunk


def refuse_part(size: int) -> None:
    """Refuse an incomplete body: the server does not report that a client closed the connection early."""
    announced = request.content_length
    if announced is not None and size != announced and request.mimetype != FORM:
        abort(400, f"Only {size} of {announced} bytes arrived.")


@app.get("/videos/<key>")
def status(key: str) -> Response:
    if not keys.is_key(key):
        abort(404)
    try:
        row = results.find(key)
    except psycopg.OperationalError:
        abort(503, "The state of the video is not available at the moment. The video is safe.")
    if row:
        return jsonify(described(row))
    if store.path(key, files.UPLOAD).exists():
        return jsonify(key=key, state="queued", accepted_at=keys.accepted_at(key).isoformat())
    abort(404)


def described(row: dict[str, Any]) -> dict[str, Any]:
    fields = {
        name: value.isoformat() if isinstance(value, datetime) else value for name, value in row.items() if value is not None
    }
    if row["state"] == "done":
        fields["video_url"], fields["poster_url"] = (url(f"/videos/{row['key']}/{name}") for name in files.RESULTS)
    return fields


@app.get("/videos/<key>/<name>")
def result(key: str, name: str) -> Response:
    if name not in files.RESULTS:
        abort(404)
    if keys.is_key(key) and not store.path(key, name).exists():
        copies.fetch(key, name)
    return send(key, name, files.RESULTS[name])


@app.get("/internal/videos/<key>/<name>")
def hand_out(key: str, name: str) -> Response:
    fleet_only()
    return send(key, name, "application/octet-stream")


@app.put("/internal/videos/<key>/<name>")
def take_back(key: str, name: str) -> tuple[Response, int]:
    """A worker's result."""
    fleet_only()
    if name not in files.RESULTS or not keys.is_key(key) or not store.path(key, files.UPLOAD).exists():
        abort(404)
    answer = take(key, name, conf.max_result_bytes)
    if not copies.hand_over(key, name):
        copies.owe(key, name)
    return answer


@app.put("/internal/copies/<key>/<name>")
def take_copy(key: str, name: str) -> tuple[Response, int]:
    """A file of another producer."""
    fleet_only()
    if name not in files.NAMES or not keys.is_key(key):
        abort(404)
    return take(key, name, conf.max_upload_bytes if name == files.UPLOAD else conf.max_result_bytes)


@app.delete("/internal/copies/<key>")
def drop_copy(key: str) -> tuple[str, int]:
    """Another producer took the job back: its message was not confirmed."""
    fleet_only()
    if not keys.is_key(key):
        abort(404)
    store.forget(key)
    return "", 204


def take(key: str, name: str, limit: int) -> tuple[Response, int]:
    with store.receive() as received:
        try:
            size = files.write(body(), received, limit)
        except files.TooLarge:
            abort(413)
        refuse_part(size)
        created = store.keep(received, key, name)
    return jsonify(bytes=store.path(key, name).stat().st_size), 201 if created else 200


@app.get("/healthz")
def healthz() -> Response:
    return jsonify(status="ok")


def send(key: str, name: str, mimetype: str) -> Response:
    try:
        path: Path = store.path(key, name)
        return send_file(path, mimetype=mimetype, conditional=True)
    except FileNotFoundError:
        abort(404)


def fleet_only() -> None:
    if not auth.allows(request.headers.get("Authorization"), conf.token, conf.token_beside):
        abort(401)


def url(path: str) -> str:
    return (conf.public_url or request.host_url.rstrip("/")) + path


@app.errorhandler(HTTPException)
def refuse(error: HTTPException) -> tuple[Response, int, dict[str, str]]:
    sentence = f"The upload is larger than {conf.max_upload_bytes} bytes." if error.code == 413 else error.description
    headers = {"Retry-After": str(RETRY_AFTER_S)} if error.code == 503 else {}
    return jsonify(error=sentence), error.code or 500, headers


@app.errorhandler(OSError)
def no_room(error: OSError) -> tuple[Response, int]:
    log.error("%s", error)
    return jsonify(error="The upload cannot be stored at the moment."), 507
