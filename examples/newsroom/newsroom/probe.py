"""`python -m newsroom.probe`: send one real job to this host's producer, as a client does, and wait for its video.

The film is generated here: a producer needs no ffmpeg. The result stays with the others, a few kilobytes.
"""

import argparse
import json
import os
import ssl
import struct
import sys
import time
import urllib.error
import urllib.request

from newsroom import files, settings

# There may be a queue of films before this one; a longer one needs attention.
DEADLINE_S = 300
ANSWER_S = 10
WIDTH, HEIGHT, FRAMES, PER_SECOND = 64, 48, 10, 10

# The authorities that vouch for a producer; main() adds NEWSROOM_CA_FILE.
trusted = ssl.create_default_context()


class Failed(Exception):
    """The message says how far the job came."""


def chunk(name: bytes, body: bytes) -> bytes:
    return name + struct.pack("<I", len(body)) + body + b"\0" * (len(body) % 2)


def film() -> bytes:
    """A second of plain pictures that grow lighter, as an uncompressed AVI: a minimal real video."""
    pictures = [bytes([25 * number] * (WIDTH * HEIGHT * 3)) for number in range(FRAMES)]
    picture = len(pictures[0])
    main = struct.pack("<14I", 10**6 // PER_SECOND, picture * PER_SECOND, 0, 0, FRAMES, 0, 1, picture, WIDTH, HEIGHT, 0, 0, 0, 0)
    rest = (0, 0, 0, 1, PER_SECOND, 0, FRAMES, picture, 0, 0)
    stream = b"vids" + b"DIB " + struct.pack("<10I4h", *rest, 0, 0, WIDTH, HEIGHT)
    layout = struct.pack("<IiiHHIIiiII", 40, WIDTH, HEIGHT, 1, 24, 0, picture, 0, 0, 0, 0)
    streams = chunk(b"LIST", b"strl" + chunk(b"strh", stream) + chunk(b"strf", layout))
    header = chunk(b"LIST", b"hdrl" + chunk(b"avih", main) + streams)
    movie = chunk(b"LIST", b"movi" + b"".join(chunk(b"00db", image) for image in pictures))
    return chunk(b"RIFF", b"AVI " + header + movie)


def ask(url: str, body: bytes | None = None) -> tuple[int, bytes]:
    """The status and the body of the answer; an error status is an answer too."""
    request = urllib.request.Request(url, data=body, headers={"Content-Type": "video/x-msvideo"} if body else {})
    try:
        with urllib.request.urlopen(request, timeout=ANSWER_S, context=trusted) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()


def send(producer: str) -> str:
    status, body = ask(f"{producer}/videos", film())
    if status != 202:
        raise Failed(f"{producer} did not accept a video: {status} {body.decode(errors='replace').strip()}")
    return json.loads(body)["key"]


def wait(producer: str, key: str, deadline_s: float) -> dict:
    """The producer's report of the finished job."""
    end = time.monotonic() + deadline_s
    while True:
        status, body = ask(f"{producer}/videos/{key}")
        # 503: the database is away, but the job goes on.
        report = json.loads(body) if status == 200 else {"state": f"unknown ({status})"}
        if report["state"] == "done":
            return report
        if report["state"] == "failed":
            raise Failed(f"The job {key} failed: {report['reason']}")
        if time.monotonic() > end:
            raise Failed(
                f"The job {key} was accepted, and after {deadline_s:g} s it is {report['state']}: see the workers' logs."
            )
        time.sleep(0.2)  # between two looks; the deadline ends them


def receive(producer: str, key: str, report: dict) -> None:
    for name, size in ((files.VIDEO, report["video_bytes"]), (files.POSTER, report["poster_bytes"])):
        status, body = ask(f"{producer}/videos/{key}/{name}")
        if status != 200 or len(body) != size:
            raise Failed(f"The job {key} is done, but its {name} came as {status} with {len(body)} of {size} bytes.")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m newsroom.probe", description="Send one real job and wait for its video.")
    parser.add_argument("--deadline", type=float, default=DEADLINE_S, metavar="SECONDS", help="default: %(default)s")
    deadline_s = parser.parse_args().deadline
    conf = settings.load(os.environ)
    producer = conf.internal_url
    if not producer:
        sys.exit("NEWSROOM_INTERNAL_URL must say where this host's producer is, e.g. http://10.0.0.4:8000.")
    started = time.monotonic()
    try:
        if conf.ca_file:
            trusted.load_verify_locations(conf.ca_file)
        key = send(producer)
        report = wait(producer, key, deadline_s)
        receive(producer, key, report)
    except Failed as error:
        sys.exit(str(error))
    except OSError as error:
        sys.exit(f"{producer} does not answer: {error}")
    took = time.monotonic() - started
    print(f"The video {key} was accepted, transcoded and fetched in {took:.1f} s: {report['video_bytes']} bytes and its poster.")


if __name__ == "__main__":
    main()
