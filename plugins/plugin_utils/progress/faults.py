"""Why a host failed, as a sentence."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from .record import printable

# Prefix of a module's or an action's message in ansible-core 2.19 and later.
PREFIX = re.compile(r"^(?:(?:Task|Module|Action) failed: )+")
# Last lines of a command's output, where the error usually is.
OUTPUT_LINES = 10
HIDDEN = "its output is hidden, because it handles secrets (no_log)."


@dataclass(frozen=True)
class Fault:
    """host: empty if the task runs once for the whole play; place: file and line of the task."""

    host: str
    task: str
    place: str
    sentence: str


def failure(result: Mapping[str, Any]) -> str:
    """The message of a failed task; of a loop, that of each failed item."""
    items = [item for item in result.get("results") or [] if isinstance(item, Mapping) and _failed(item)]
    if "censored" in result and not items:
        return f"The task failed; {HIDDEN}"
    if not items:
        return _message(result)
    return "\n".join(dict.fromkeys(_item(item) for item in items))


def unreachable(result: Mapping[str, Any]) -> str:
    reason = _text(result.get("msg")) or "no answer"
    if "via ssh:" in reason:
        reason = reason.split("via ssh:", 1)[1]
    lines = [line.strip() for line in reason.splitlines() if line.strip()]
    why = (lines or ["no answer"])[-1].rstrip(".")
    return f"The host cannot be reached: {why}. Check that it is up, and its ansible_host, ansible_user and SSH key."


def _failed(item: Mapping[str, Any]) -> bool:
    return bool(item.get("failed") or item.get("unreachable"))


def _item(item: Mapping[str, Any]) -> str:
    if "censored" in item or item.get("_ansible_no_log"):
        return f"An item failed; {HIDDEN}"
    label = printable(str(item.get("_ansible_item_label", item.get("item", ""))))
    return f"{label[:80]}: {_message(item)}"


def _text(value: Any) -> str:
    """The value as text; a list becomes one line per entry."""
    text = "\n".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value or "")
    return PREFIX.sub("", printable(text.replace("\t", "    ")).strip())


def _message(result: Mapping[str, Any]) -> str:
    message = _text(result.get("msg") or result.get("reason"))
    if message == "Assertion failed" and result.get("assertion"):
        message = f"Assertion failed: {_text(result['assertion'])}"
    if "rc" not in result and message:
        return message
    output = _output(result)
    if output and output not in message:
        return f"{message}\n{output}".lstrip("\n")
    return message or "The task failed without a message. Run it again with -v."


def _output(result: Mapping[str, Any]) -> str:
    """The end of a command's output; standard error first."""
    for key in ("stderr", "module_stderr", "stdout", "module_stdout"):
        if output := _text(result.get(key)):
            return "\n".join(output.splitlines()[-OUTPUT_LINES:])
    return ""
