"""Makes the demo's videos, and judges what the fleet made of them."""

from __future__ import annotations

import json
import subprocess
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Video:
    """What is sent, and the size that it must come back with."""

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
    # Not what comes back: another container, another colour format, another sound.
    codecs = ["-c:v", "libx264", "-preset", "ultrafast", "-pix_fmt", "yuv444p", *(["-c:a", "flac"] if video.sound else [])]
    subprocess.run(["ffmpeg", "-v", "error", "-nostdin", "-y", *picture, *sound, *codecs, str(path)], check=True)
    return path


def faults(video: Video, made: Path, poster: Path) -> list[str]:
    """Sentences about what ffprobe says of a finished video and its poster; none when all is well."""
    streams, container = _probe(made)
    pictures = [stream for stream in streams if stream["codec_type"] == "video"]
    sounds = [stream["codec_name"] for stream in streams if stream["codec_type"] == "audio"]
    found = []
    if [(stream["codec_name"], stream["pix_fmt"]) for stream in pictures] != [("h264", "yuv420p")]:
        found.append(f"{video.name} is no single H.264 picture in yuv420p: {pictures}")
    elif (pictures[0]["width"], pictures[0]["height"]) != video.becomes:
        found.append(f"{video.name} came back as {pictures[0]['width']} × {pictures[0]['height']}, not {video.becomes}")
    if sounds != (["aac"] if video.sound else []):
        found.append(f"{video.name} came back with the sound {sounds}")
    if abs(float(container["duration"]) - video.seconds) > 0.5:
        found.append(f"{video.name} came back {container['duration']} s long, not {video.seconds}")
    content = made.read_bytes()
    if content.index(b"moov") > content.index(b"mdat"):
        found.append(f"{video.name} has its index at the end, so that a browser must load all of it first")
    shown = [(stream["codec_name"], stream["width"], stream["height"]) for stream in _probe(poster)[0]]
    if shown != [("mjpeg", *video.becomes)]:
        found.append(f"the poster of {video.name} is {shown}")
    return found


def _probe(path: Path) -> tuple[list[dict], dict]:
    command = ["ffprobe", "-v", "error", "-show_streams", "-show_format", "-of", "json", str(path)]
    said = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    return said["streams"], said["format"]
