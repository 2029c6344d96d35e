"""ffmpeg's and ffprobe's part: any video in, one that every browser plays and a poster out."""

import errno
import json
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

LONGEST_SIDE = 1280  # 720p, what a news page shows; a smaller video keeps its size

# An upload is a stranger's file. Only real containers are opened: a playlist would make ffmpeg read other files and addresses.
CONTAINERS = "mov,mp4,matroska,webm,avi,mpegts,mpeg,mpegvideo,ogg,flv,asf,mxf,dv,h264,hevc,m4v"
# A few kilobytes can announce a picture that takes gigabytes to decode: 8K, twice, is enough for any camera.
MAX_PIXELS = 64 * 1024 * 1024
CAUTIOUS = ["-v", "error", "-protocol_whitelist", "file", "-format_whitelist", CONTAINERS, "-max_pixels", str(MAX_PIXELS)]

# A killed worker must not leave an ffmpeg behind that nobody waits for. One that wants too much memory is told no before the
# kernel ends somebody else's process to make room. Addresses count here, of which ffmpeg reserves more than it uses.
MAX_ADDRESS_BYTES = 2 * 1024**3
BOUNDED = ["prlimit", f"--as={MAX_ADDRESS_BYTES}", "--", "setpriv", "--pdeathsig", "KILL", "--"]

# ffmpeg's and x264's words for memory that they do not get.
NO_MEMORY = (os.strerror(errno.ENOMEM), "malloc of size")
# What ffmpeg says when it is the host that has trouble, and not the video: the next attempt, or the next host, can succeed.
HOST_TROUBLE = tuple(
    os.strerror(number)
    for number in (
        errno.EAGAIN,
        errno.EIO,
        errno.ENOSPC,
        errno.EDQUOT,
        errno.EMFILE,
        errno.ENFILE,
        errno.EROFS,
        errno.EACCES,
        errno.ENOENT,
        errno.ESTALE,
    )
)


class NotPlayable(Exception):
    """The upload can't become a video; the message is for the person who sent it."""


class OutOfMemory(OSError):
    """ffmpeg got no memory, or the kernel ended it, as it does when memory runs out. The video may be why, or another process."""


@dataclass(frozen=True)
class Probe:
    width: int
    height: int
    duration_s: float


def probe(path: Path) -> Probe:
    wanted = ["-select_streams", "V:0", "-show_entries", "stream=width,height:format=duration", "-of", "json"]
    found = json.loads(_run(["ffprobe", *CAUTIOUS, *wanted, str(path)]))
    if not found.get("streams"):
        raise NotPlayable("The file holds no moving picture.")
    stream = found["streams"][0]
    width, height = int(stream["width"]), int(stream["height"])
    if width * height > MAX_PIXELS:
        raise NotPlayable(f"The picture is too large: {width} × {height}.")
    return Probe(width, height, float(found["format"].get("duration", 0)))


def make_video(upload: Path, video: Path, threads: int) -> None:
    # One factor for both sides keeps the shape, and H.264 in yuv420p needs even ones. Phone videos stand upright by here.
    factor = f"min(1\\,{LONGEST_SIDE}/max(iw*sar\\,ih))"
    scale = f"scale=w=max(2\\,2*trunc(iw*sar*{factor}/2)):h=max(2\\,2*trunc(ih*{factor}/2)),setsar=1"
    picture = ["-map", "0:V:0", "-fpsmax", "60", "-c:v", "libx264", "-preset", "veryfast", "-crf", "23", "-pix_fmt", "yuv420p"]
    sound = ["-map", "0:a:0?", "-c:a", "aac", "-b:a", "128k", "-ac", "2"]
    # The index goes to the front, so that playing starts before the download ends. No metadata: phones write places into it.
    container = ["-map_metadata", "-1", "-movflags", "+faststart", "-f", "mp4"]
    _ffmpeg(upload, ["-threads", str(threads), "-vf", scale, *picture, *sound, *container], video, threads)


def make_poster(video: Path, poster: Path, duration_s: float) -> None:
    # A tenth into the video: the first picture is often black.
    _ffmpeg(video, ["-ss", f"{duration_s / 10:.3f}", "-frames:v", "1", "-q:v", "3", "-f", "image2", "-update", "1"], poster)


def _ffmpeg(source: Path, options: list[str], target: Path, threads: int = 1) -> None:
    # Each thread of the decoder holds pictures of the source's size; by itself it takes one for each processor.
    _run(["ffmpeg", "-nostdin", "-y", *CAUTIOUS, "-threads", str(threads), "-i", str(source), *options, str(target)])


def _run(command: list[str]) -> str:
    done = subprocess.run([*BOUNDED, *command], capture_output=True, text=True, errors="replace")
    if done.returncode == 0:
        return done.stdout
    if done.returncode < 0 or any(words in done.stderr for words in NO_MEMORY):
        raise OutOfMemory(f"{command[0]} ended with {done.returncode}: {_reason(done.stderr)}")
    if any(trouble in done.stderr for trouble in HOST_TROUBLE):
        raise OSError(f"{command[0]} ended with {done.returncode}: {_reason(done.stderr)}")
    if "not on whitelist" in done.stderr:
        raise NotPlayable("This is no video: a file of its kind is not taken.")
    raise NotPlayable(f"This is no video that ffmpeg can read: {_reason(done.stderr)}")


def _reason(stderr: str) -> str:
    """What the last line says after its last colon; before that stands where ffmpeg met it, which helps nobody outside."""
    lines = [line.strip() for line in stderr.splitlines() if line.strip()]
    return lines[-1].rsplit(": ", 1)[-1][:200] if lines else "it gave no reason"
