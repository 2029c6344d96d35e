"""The version of the running kit, from MANIFEST.json of an installed artifact or galaxy.yml of a checkout."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path

import yaml

COLLECTION = Path(__file__).resolve().parents[3]


@cache
def kit_version(collection: Path = COLLECTION) -> str:
    manifest = collection / "MANIFEST.json"
    if manifest.exists():
        return str(json.loads(manifest.read_text(encoding="utf-8"))["collection_info"]["version"])
    return str(yaml.safe_load((collection / "galaxy.yml").read_text(encoding="utf-8"))["version"])
