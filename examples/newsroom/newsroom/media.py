"""ffmpeg and ffprobe: any video in; out, one that every browser plays, and a poster."""

import errno
import json
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

LONGEST_SIDE = 1280  # 720p, enough for a news page; a smaller video keeps its size

# Uploads are untrusted. Only real containers are opened: a playlist would make ffmpeg read other files and URLs.
CONTAINERS = "mov,mp4,matroska,webm,avi,mpegts,mpeg,mpegvideo,ogg,flv,asf,mxf,dv,h264,hevc,m4v"
# A file of a few kilobytes can hold a picture that takes gigabytes to decode. Twice 8K is enough for any camera.
MAX_PIXELS = 64 * 1024 * 1024
CAUTIOUS = ["-v", "error", "-protocol_whitelist", "file", "-format_whitelist", CONTAINERS, "-max_pixels", str(MAX_PIXELS)]

# ffmpeg dies with its worker. Its memory is limited, or the kernel would kill another process to make room; the limit counts
# addresses, of which ffmpeg reserves more than it uses.
MAX_ADDRESS_BYTES = 2 * 1024**3
BOUNDED = ["prlimit", f"--as={MAX_ADDRESS_BYTES}", "--", "setpriv", "--pdeathsig", "KILL", "--"]

# ffmpeg's and x264's messages about failed allocations.
NO_MEMORY = (os.strerror(errno.ENOMEM), "malloc of size")
# ffmpeg's messages about trouble of the host, not of the video: the next attempt, or another host, can succeed.
HOST_TROUBLE = tuple(
    os.strerror(number)
    for number in (
        errno.EAGAIN, errno.EIO, errno.ENOSPC, errno.EDQUOT, errno.EMFILE, errno.ENFILE, errno.EROFS, errno.EACCES, errno.ENOENT,
        errno.ESTALE,
    )
)  # fmt: skip


class NotPlayable(Exception):
    """The upload cannot become a video; the message is for the person who sent it."""


class OutOfMemory(OSError):
    """An allocation of ffmpeg failed, or the kernel killed it, as when memory runs out. The cause may be another process."""


@dataclass(frozen=True)
class Probe:
    width: int
    height: int
    duration_s: float


def probe(path: Path) -> Probe:
    wanted = ["-select_streams", "V:0", "-show_entries", "stream=width,height:format=duration", "-of", "json"]
    report = json.loads(_run(["ffprobe", *CAUTIOUS, *wanted, str(path)]))
    if not report.get("streams"):
        raise NotPlayable("The file holds no moving picture.")
    stream = report["streams"][0]
    width, height = int(stream["width"]), int(stream["height"])
    if width * height > MAX_PIXELS:
        raise NotPlayable(f"The picture is too large: {width} × {height}.")
    return Probe(width, height, float(report["format"].get("duration", 0)))


def make_video(upload: Path, video: Path, threads: int) -> None:
    # One factor for both sides keeps the shape; H.264 in yuv420p needs even sides. ffmpeg has rotated phone videos upright.
    factor = f"min(1\\,{LONGEST_SIDE}/max(iw*sar\\,ih))"
    scale = f"scale=w=max(2\\,2*trunc(iw*sar*{factor}/2)):h=max(2\\,2*trunc(ih*{factor}/2)),setsar=1"
    picture = ["-map", "0:V:0", "-fpsmax", "60", "-c:v", "libx264", "-preset", "veryfast", "-crf", "23", "-pix_fmt", "yuv420p"]
    sound = ["-map", "0:a:0?", "-c:a", "aac", "-b:a", "128k", "-ac", "2"]
    # The index at the front lets playing start before the download ends. No metadata: phones write locations into it.
    container = ["-map_metadata", "-1", "-movflags", "+faststart", "-f", "mp4"]
    _ffmpeg(upload, ["-threads", str(threads), "-vf", scale, *picture, *sound, *container], video, threads)


def make_poster(video: Path, poster: Path, duration_s: float) -> None:
    # A tenth into the video: the first picture is often black.
    _ffmpeg(video, ["-ss", f"{duration_s / 10:.3f}", "-frames:v", "1", "-q:v", "3", "-f", "image2", "-update", "1"], poster)


def _ffmpeg(source: Path, options: list[str], target: Path, threads: int = 1) -> None:
    # Each thread of the decoder holds pictures of the source's size; by default there is one per CPU.
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
        raise NotPlayable("This is not a video: files of its kind are not taken.")
    raise NotPlayable(f"This is not a video that ffmpeg can read: {_reason(done.stderr)}")


def _reason(stderr: str) -> str:
    """The last line after its last colon; the part before is internal to ffmpeg."""
    lines = [line.strip() for line in stderr.splitlines() if line.strip()]
    return lines[-1].rsplit(": ", 1)[-1][:200] if lines else "it gave no reason"
