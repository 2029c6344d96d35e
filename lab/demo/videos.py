"""Makes the demo's videos, and checks what the fleet made of them."""

from __future__ import annotations

import json
import subprocess
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Video:
    """A video to send; `becomes` is the size of the result."""

    name: str
    size: tuple[int, int]
    seconds: int
    becomes: tuple[int, int]
    sound: bool = False

    @property
    def file(self) -> str:
        return f"{self.name}.mkv"


VIDEOS = (
    Video("short", (640, 360), 2, (640, 360)),
    Video("with-sound", (854, 480), 3, (854, 480), sound=True),
    # Odd sides, which H.264 in yuv420p cannot have.
    Video("portrait", (361, 641), 3, (360, 640)),
    # Larger than a news page shows.
    Video("large", (1920, 1080), 2, (1280, 720)),
    Video("long", (320, 180), 12, (320, 180)),
)


def make(videos: tuple[Video, ...], folder: Path) -> dict[Video, Path]:
    folder.mkdir(parents=True, exist_ok=True)
    return {video: _make(video, folder / video.file) for video in videos}


def _make(video: Video, path: Path) -> Path:
    picture = ["-f", "lavfi", "-i", f"testsrc2=size={video.size[0]}x{video.size[1]}:rate=25:duration={video.seconds}"]
    sound = ["-f", "lavfi", "-i", f"sine=frequency=440:duration={video.seconds}"] if video.sound else []
    # Unlike the result: another container, colour format and sound.
    codecs = ["-c:v", "libx264", "-preset", "ultrafast", "-pix_fmt", "yuv444p", *(["-c:a", "flac"] if video.sound else [])]
    subprocess.run(["ffmpeg", "-v", "error", "-nostdin", "-y", *picture, *sound, *codecs, str(path)], check=True)
    return path


def faults(video: Video, film: Path, poster: Path) -> list[str]:
    """Sentences about what ffprobe finds wrong with a finished video and its poster."""
    streams, container = _probe(film)
    pictures = [stream for stream in streams if stream["codec_type"] == "video"]
    sounds = [stream["codec_name"] for stream in streams if stream["codec_type"] == "audio"]
    sentences = []
    if [(stream["codec_name"], stream["pix_fmt"]) for stream in pictures] != [("h264", "yuv420p")]:
        sentences.append(f"{video.name} is not a single H.264 picture in yuv420p: {pictures}")
    elif (pictures[0]["width"], pictures[0]["height"]) != video.becomes:
        sentences.append(f"{video.name} came back as {pictures[0]['width']} × {pictures[0]['height']}, not {video.becomes}")
    if sounds != (["aac"] if video.sound else []):
        sentences.append(f"{video.name} came back with the sound {sounds}")
    if abs(float(container["duration"]) - video.seconds) > 0.5:
        sentences.append(f"{video.name} came back {container['duration']} s long, not {video.seconds}")
    content = film.read_bytes()
    if content.index(b"moov") > content.index(b"mdat"):
        sentences.append(f"{video.name} has its index at the end: a browser must load the whole file first")
    shown = [(stream["codec_name"], stream["width"], stream["height"]) for stream in _probe(poster)[0]]
    if shown != [("mjpeg", *video.becomes)]:
        sentences.append(f"the poster of {video.name} is {shown}")
    return sentences


def _probe(path: Path) -> tuple[list[dict], dict]:
    command = ["ffprobe", "-v", "error", "-show_streams", "-show_format", "-of", "json", str(path)]
    report = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    return report["streams"], report["format"]
