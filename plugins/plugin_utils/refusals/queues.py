"""The question to the broker whether an application's queues keep its jobs, and the refusal that its answer gives."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..fleet.rollout import mates


def queues_used(name: str, host: str, hosts: list[str], hostvars: Mapping[str, Any], answers: str) -> dict[str, Any]:
    """What the application's live processes consume and send to, and whether this host asks the broker for all of them.

    hosts: those of the batch.  answers: variable that they registered with celery_promises; empty before they run.

    >>> hostvars = {"w1": {"application_name": "a"}, "w2": {"application_name": "a", "x": {"consumed": ["q"], "sent": {}}}}
    >>> queues_used("a", "w1", ["w1", "w2"], hostvars, "x")
    {'asks': True, 'consumed': ['q'], 'sent': {}}
    >>> queues_used("a", "w2", ["w1", "w2"], hostvars, "")["asks"]
    False
    """
    carriers = mates(name, hosts, hostvars)
    known = [hostvars[mate].get(answers) or {} for mate in carriers] if answers else []
    return {
        "asks": carriers[:1] == [host],
        "consumed": sorted({queue for answer in known for queue in answer.get("consumed", [])}),
        "sent": {queue: setting for answer in known for queue, setting in answer.get("sent", {}).items()},
    }


def queues_refused(results: list[dict[str, Any]], check_mode: bool = False) -> str:
    """The refusal by the first broker that answered; empty if there is nothing to refuse, or nobody to ask.

    >>> queues_refused([{"item": "b1", "unreachable": True, "msg": "timed out"}, {"answered": True, "sentences": []}])
    ''
    """
    for result in results:
        if result.get("answered"):
            listed = "\n".join(f"  * {sentence}" for sentence in result["sentences"])
            return f"The broker has queues that can lose jobs:\n{listed}" if listed else ""
    if check_mode or not results:  # a blank host in check mode has no broker yet
        return ""
    silent = [f"{result['item']}: {'; '.join(result.get('sentences', [])) or result.get('msg')}" for result in results]
    return f"No broker could be asked about its queues ({', '.join(silent)}). Start one, and run again."
