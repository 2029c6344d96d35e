#!/usr/bin/python
"""Whether live Celery workers are configured so that what was accepted is done."""

DOCUMENTATION = r"""
module: celery_promises
short_description: Ask live Celery workers whether they keep the promise
description:
  - Asks each worker for its configuration and for its tasks' own settings, and fails with the name of each that breaks
    the promise and is not waived. Changes nothing.
options:
  run: {description: Script that runs a program in the application's environment., type: path, required: true}
  user: {description: Account of the application., type: str, required: true}
  app: {description: "The Celery application, as celery -A takes it.", type: str, required: true}
  nodes: {description: Names of the workers., type: list, elements: str, required: true}
  logs: {description: Their error logs, shown when one does not answer., type: list, elements: path, default: []}
  promises: {description: Setting to the value that the promise needs., type: dict, required: true}
  waivers: {description: Setting to the reason for breaking it., type: dict, default: {}}
  fingerprint: {description: "What C(APPLICATION_FINGERPRINT) is in the environment of a worker of this release.", type: str}
  timeout: {description: Seconds to wait for the workers' answers., type: int, default: 60}
author: maintainers
"""

EXAMPLES = r"""
- name: Ask the worker
  celery_promises:
    run: /opt/newsroom/current/run
    user: www-data
    app: newsroom.celery
    nodes: [celery-worker@worker1]
    promises: {task_acks_late: true}
"""

RETURN = r"""
waived: {description: Promises broken on purpose and their reasons., type: dict, returned: always}
"""

import json
import time
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule

LOG_LINES = 25

# Settings of a single task that override the worker's.
TASK_PROMISES = {"acks_late": "task_acks_late", "reject_on_worker_lost": "task_reject_on_worker_lost"}

# Runs in the application's environment: prints {"conf": {node: settings}, "tasks": {node: [line]}, "fingerprints": {node: text}}.
# A worker by the same name may still be the one before, so its process is asked for what it was started for.
ASK = """
import json, sys
from pathlib import Path
from celery.app.utils import find_app
name, attributes, *nodes = sys.argv[1:]
inspect = find_app(name).control.inspect(destination=nodes, timeout=3, limit=len(nodes))
conf = inspect.conf(with_defaults=True) or {}
tasks = inspect.registered(*attributes.split(",")) or {}
fingerprints = {}
for node, stats in (inspect.stats() or {}).items():
    started_with = Path(f"/proc/{stats['pid']}/environ")
    lines = started_with.read_text(errors="replace").split("\\0") if started_with.exists() else []
    fingerprints[node] = next((line.split("=", 1)[1] for line in lines if line.startswith("APPLICATION_FINGERPRINT=")), "")
print(json.dumps({"conf": conf, "tasks": tasks, "fingerprints": fingerprints}, default=str))
"""


def task_settings(line: str) -> tuple[str, dict[str, str]]:
    """A line of ``inspect registered``, e.g. 'newsroom.transcode [acks_late=True]', as name and settings."""
    name, _, rest = line.partition(" [")
    return name, dict(pair.split("=", 1) for pair in rest.rstrip("]").split(" ") if "=" in pair)


# What Celery tells instead of the value of a setting whose name looks secret (keyfile, for one).
MASK = "*" * 8


def kept(found: object, wanted: object) -> bool:
    """Whether a live setting is what the promise needs; of a mapping, key by key, as far as Celery tells them."""
    if not isinstance(wanted, dict):
        return found == wanted
    if not isinstance(found, dict):
        return False
    return all(found.get(key) in (value, MASK) or (value is None and key in found) for key, value in wanted.items())


def broken(node: str, conf: dict, tasks: list, promises: dict, waivers: dict) -> list[str]:
    """Sentences for each setting of the worker, or of one of its tasks, that breaks a promise and is not waived."""
    remedy = "Take it out of the application's code, or waive it with a reason in application_waivers."
    sentences = [
        f"{node}: {setting} is {conf.get(setting)!r}, but the promise needs {wanted!r}. {remedy}"
        for setting, wanted in promises.items()
        if setting not in waivers and not kept(conf.get(setting), wanted)
    ]
    for line in tasks:
        name, own = task_settings(line)
        sentences += [
            f"{node}: the task {name} sets {key}={own[key]}, but the promise needs {promises[setting]!r} ({setting}). {remedy}"
            for key, setting in TASK_PROMISES.items()
            if setting in promises and setting not in waivers and own.get(key, str(promises[setting])) != str(promises[setting])
        ]
    return sentences


def log_tail(logs: list) -> str:
    texts = [
        f"--- {log}\n" + "\n".join(Path(log).read_text(errors="replace").splitlines()[-LOG_LINES:])
        for log in logs
        if Path(log).exists()
    ]
    return "\n".join(texts)


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "run": {"type": "path", "required": True},
            "user": {"type": "str", "required": True},
            "app": {"type": "str", "required": True},
            "nodes": {"type": "list", "elements": "str", "required": True},
            "logs": {"type": "list", "elements": "path", "default": []},
            "promises": {"type": "dict", "required": True},
            "waivers": {"type": "dict", "default": {}},
            "fingerprint": {"type": "str"},
            "timeout": {"type": "int", "default": 60},
        },
        supports_check_mode=True,
    )
    asked = module.params
    if module.check_mode or not asked["nodes"]:
        module.exit_json(changed=False, waived=asked["waivers"])

    as_user = ["runuser", "-u", asked["user"], "--", asked["run"]]
    argv = [*as_user, "python", "-c", ASK, asked["app"], ",".join(TASK_PROMISES), *asked["nodes"]]
    deadline = time.monotonic() + asked["timeout"]
    while True:
        code, out, err = module.run_command(argv, cwd="/")
        answer = json.loads(out) if code == 0 else {"conf": {}, "tasks": {}, "fingerprints": {}}
        silent = [node for node in asked["nodes"] if any(node not in told for told in answer.values())]
        silent += [
            node for node in set(asked["nodes"]) - set(silent) if asked["fingerprint"] not in (None, answer["fingerprints"][node])
        ]
        if not silent:
            break
        if time.monotonic() > deadline:
            module.fail_json(
                msg=f"No answer of this release within {asked['timeout']} s (celery_worker_answer_timeout) "
                f"from {', '.join(silent)}.\n"
                f"{err[-2000:]}\n{log_tail(asked['logs'])}"
            )

    sentences = [
        sentence
        for node in asked["nodes"]
        for sentence in broken(node, answer["conf"][node], answer["tasks"][node], asked["promises"], asked["waivers"])
    ]
    if sentences:
        module.fail_json(msg="The application breaks the promise:\n" + "\n".join(f"  * {s}" for s in sentences))
    module.exit_json(changed=False, waived=asked["waivers"])


if __name__ == "__main__":
    main()
