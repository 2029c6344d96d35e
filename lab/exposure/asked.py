"""What an inventory says of itself, by a playbook that only its own values are asked of."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from lab.machine import REPOSITORY, Refusal


def asked(inventory: str, playbook: str) -> Any:
    """What lab/exposure/<playbook>.yml writes as JSON into its `answer_file`, which is gone afterwards: it may hold secrets."""
    with tempfile.TemporaryDirectory() as home:
        file = Path(home) / "answer.json"
        command = [str(Path(sys.executable).parent / "ansible-playbook"), "-i", inventory, "-e", f"answer_file={file}"]
        done = subprocess.run(
            [*command, f"lab/exposure/{playbook}.yml"],
            cwd=REPOSITORY,
            text=True,
            capture_output=True,
            stdin=subprocess.DEVNULL,
            check=False,
        )
        if done.returncode:
            raise Refusal(f"the inventory {inventory} does not tell its {playbook}:\n{done.stdout[-3000:]}{done.stderr}")
        return json.loads(file.read_text(encoding="utf-8"))
