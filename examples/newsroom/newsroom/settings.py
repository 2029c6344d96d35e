"""The settings from the environment. README.md lists the variables."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

MIB = 1024 * 1024
SHORTEST_TOKEN = 16


class SettingsError(Exception):
    """A variable is missing or wrong; the message names it."""


@dataclass(frozen=True)
class Settings:
    data_dir: Path
    token: str
    token_beside: str
    max_upload_bytes: int
    ffmpeg_threads: int
    internal_url: str
    peer_urls: tuple[str, ...]
    public_url: str
    ca_file: str

    @property
    def max_result_bytes(self) -> int:
        """A short, strongly compressed clip grows when it is re-encoded, but never to four times its size."""
        return 4 * self.max_upload_bytes


def load(environ: Mapping[str, str]) -> Settings:
    token = environ.get("NEWSROOM_TOKEN", "")
    if len(token) < SHORTEST_TOKEN:
        raise SettingsError(f"NEWSROOM_TOKEN must be a secret of at least {SHORTEST_TOKEN} characters; it has {len(token)}.")
    beside = environ.get("NEWSROOM_TOKEN_BESIDE", "")
    if 0 < len(beside) < SHORTEST_TOKEN:
        raise SettingsError(f"NEWSROOM_TOKEN_BESIDE must have {SHORTEST_TOKEN} characters, or none; it has {len(beside)}.")
    return Settings(
        data_dir=Path(environ.get("NEWSROOM_DATA_DIR", "/var/lib/newsroom")),
        token=token,
        token_beside=beside,
        max_upload_bytes=_positive(environ, "NEWSROOM_MAX_UPLOAD_BYTES", 200 * MIB),
        ffmpeg_threads=_positive(environ, "NEWSROOM_FFMPEG_THREADS", 1),
        internal_url=environ.get("NEWSROOM_INTERNAL_URL", "").rstrip("/"),
        peer_urls=_peers(environ),
        public_url=environ.get("NEWSROOM_PUBLIC_URL", "").rstrip("/"),
        ca_file=environ.get("NEWSROOM_CA_FILE", ""),
    )


def _peers(environ: Mapping[str, str]) -> tuple[str, ...]:
    urls = [url.strip().rstrip("/") for url in environ.get("NEWSROOM_PEER_URLS", "").split(",") if url.strip()]
    if wrong := [url for url in urls if not url.startswith(("http://", "https://"))]:
        raise SettingsError(f"NEWSROOM_PEER_URLS must hold URLs, e.g. https://10.0.0.5:8000; it has {wrong[0]!r}.")
    return tuple(dict.fromkeys(urls))


def _positive(environ: Mapping[str, str], name: str, default: int) -> int:
    text = environ.get(name, str(default))
    if not text.isdecimal() or int(text) < 1:
        raise SettingsError(f"{name} must be a whole number of at least 1; it is {text!r}.")
    return int(text)
