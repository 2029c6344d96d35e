#!/usr/bin/python
"""Whether a release's code, live Celery workers and web processes' Celery clients keep the promise that accepted jobs run."""

DOCUMENTATION = r"""
module: celery_promises
short_description: Check the configuration of a release's code, of Celery's live workers and of clients
description:
  - Queries each worker's configuration, pool, queues and tasks, and fails with the name of each setting that breaks the promise
    and is not waived. Changes nothing.
  - With I(client), checks the configuration of a publishing process instead, by loading its module in the application's
    environment.
  - With I(code), does so for a release that no program runs yet, and asks neither a worker nor the broker. What a program's
    arguments or the start of a worker change is not in force there.
  - Each worker tests in its own process whether it redacts task arguments (C(task_arguments_redacted)).
options:
  run: {description: Script that runs a program in the application's environment., type: path, required: true}
  user: {description: Account of the application., type: str, required: true}
  app: {description: "The Celery application, as celery -A takes it.", type: str, required: true}
  nodes: {description: Names of the workers., type: list, elements: str, default: []}
  client: {description: "The web application, as module:variable.", type: str}
  code: {description: "Whether to check a release that no program runs yet: the modules that I(client) loads, or without it those
         that a worker loads.", type: bool, default: false}
  logs: {description: 'Their error logs, shown when one does not answer.', type: list, elements: path, default: []}
  promises: {description: Setting to the value that the promise requires., type: dict, required: true}
  waivers: {description: Setting to the reason for breaking it., type: dict, default: {}}
  waived_queues: {description: Queue that may break it to the reason., type: dict, default: {}}
  queues: {description: Queues that the application's workers consume; empty to skip the check of routes., type: list,
           elements: str, default: []}
  fingerprint: {description: C(APPLICATION_FINGERPRINT) in the environment of a worker of this release., type: str}
  timeout: {description: "Seconds to wait for the workers' answers, or to load the code.", type: int, default: 60}
author: maintainers
"""

EXAMPLES = r"""
- name: Check the worker
  celery_promises:
    run: /opt/newsroom/current/run
    user: www-data
    app: newsroom.celery
    nodes: [celery-worker@worker1]
    promises: {task_acks_late: true}

- name: Check what a web process will publish with, before it runs this release
  celery_promises:
    run: /opt/newsroom/releases/6f0c2e91ab34/run
    user: www-data
    app: newsroom.celery
    client: newsroom.web:app
    code: true
    promises: {task_always_eager: false}
"""

RETURN = r"""
waived: {description: Waived settings and their reasons., type: dict, returned: always}
consumed: {description: Queues that the workers consume., type: list, elements: str, returned: always}
sent: {description: "Queue to the setting that sends jobs to it.", type: dict, returned: always}
"""

import json
import time
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule

from ..module_utils.celery_queues import DECLARED, REMEDY, names_of, priorities_lost, queues_broken, routed, source

LOG_LINES = 25
UNTOUCHED = "No program was changed."

REDACTION = "task_arguments_redacted"
POOL = "worker_pool"
# Options of a task that override the worker's settings. They must equal the promise's values; limits may be lower.
TASK_PROMISES = {
    "acks_late": "task_acks_late",
    "reject_on_worker_lost": "task_reject_on_worker_lost",
    "acks_on_failure": "task_acks_on_failure",
    "acks_on_timeout": "task_acks_on_timeout",
    "time_limit": "task_time_limit",
    "soft_time_limit": "task_soft_time_limit",
}
# Before Celery 5.7 one attribute decides both; from then on it is the default of the two above.
TASK_BOTH = "acks_on_failure_or_timeout"
# Setting to the one that does the same before the first exists: since 5.7, and since 5.6. The second needs nothing of its own, as
# grunnfjell_celery makes each missing queue what the default queue is.
INSTEAD = {
    "task_acks_on_failure": "task_acks_on_failure_or_timeout",
    "task_acks_on_timeout": "task_acks_on_failure_or_timeout",
    "task_create_missing_queue_type": "task_default_queue_type",
}
LIMITS = ("soft_time_limit", "time_limit")  # in the order of a pool's timeouts
ATTRIBUTES = (*TASK_PROMISES, TASK_BOTH, "queue", "priority")


def task_settings(line: str) -> tuple[str, dict[str, str]]:
    """A line of ``inspect registered``, e.g. 'newsroom.transcode [acks_late=True]', as name and settings."""
    name, _, rest = line.partition(" [")
    return name, dict(pair.split("=", 1) for pair in rest.rstrip("]").split(" ") if "=" in pair)


# Celery's mask for values of settings whose names look secret (keyfile, for one).
MASK = "*" * 8


def kept(live: object, wanted: object) -> bool:
    """Whether a live setting has the promise's value; mappings are compared by the promise's keys, masked values pass."""
    if not isinstance(wanted, dict):
        return live == wanted
    if not isinstance(live, dict):
        return False
    return all(live.get(key) in (value, MASK) or (value is None and key in live) for key, value in wanted.items())


def bounded(seconds: object, limit: object) -> bool:
    """Whether a time limit is set, and at most that of the promise."""
    try:
        return 0 < float(seconds) <= float(limit)
    except (TypeError, ValueError):
        return False


def settings_broken(node: str, conf: dict, promises: dict) -> list[str]:
    """Sentences for settings of a worker or a client that break a promise."""
    return [
        f"{node}: {setting} is {conf.get(setting)!r}, but the promise needs {wanted!r}. {REMEDY}"
        for setting, wanted in promises.items()
        if not kept(conf.get(setting), wanted)
    ]


def settings_lacking(node: str, celery: dict, promises: dict) -> list[str]:
    """Sentences for settings that this version of Celery ignores, without another that does the same."""
    return [
        f"{node}: Celery {celery['version']} lacks {setting}, which the promise needs. Lock Celery 5.5 to 5.7, "
        f"or waive {setting} with a reason in application_waivers."
        for setting in promises
        if setting not in celery["settings"] and setting != REDACTION and INSTEAD.get(setting) not in celery["settings"]
    ]


def tasks_broken(node: str, tasks: list, promises: dict) -> list[str]:
    """Sentences for tasks whose own options break a promise."""
    sentences = []
    for line in tasks:
        name, own = task_settings(line)
        # Only for Celery before 5.7, which does not report the two options that replace it.
        checked = TASK_PROMISES if "acks_on_failure" in own else {**TASK_PROMISES, TASK_BOTH: "task_acks_on_failure"}
        for key, setting in checked.items():
            if setting not in promises or key not in own:
                continue
            limit = promises[setting]
            if bounded(own[key], limit) if key in LIMITS else own[key] == str(limit):
                continue
            needs = f"more than 0 and at most {limit!r}" if key in LIMITS else repr(limit)
            sentences.append(
                f"{node}: the task {name} sets {key}={own[key]}, but the promise needs {needs} ({setting}). {REMEDY}"
            )
    return sentences


def pool_broken(node: str, pool: dict, promises: dict) -> list[str]:
    """Sentences for a pool that cannot kill a task, or kills it too late; command line options override every setting."""
    remedy = "Take it out of the program's arguments or the application's code, or waive it with a reason in application_waivers."
    kind = str(pool.get("implementation"))
    if POOL in promises and promises[POOL] not in kind:
        return [f"{node}: its pool is {kind}, but the promise needs {promises[POOL]} ({POOL}). {remedy}"]
    return [
        f"{node}: its pool kills a task after {seconds} s ({key}), but the promise needs more than 0 and at most "
        f"{promises[f'task_{key}']} ({f'task_{key}'}). {remedy}"
        for key, seconds in zip(LIMITS, pool.get("timeouts") or [], strict=False)
        if f"task_{key}" in promises and not bounded(seconds, promises[f"task_{key}"])
    ]


def queues_sent_to(answer: dict) -> dict[str, str]:
    """Queue to the setting by which the process sends jobs to it."""
    conf = answer["conf"]
    routes = routed(conf.get("task_routes")) | set(answer.get("destinations", {}).values())
    routes |= {own["queue"] for _, own in map(task_settings, answer.get("tasks", [])) if "queue" in own}
    # A worker's are those that it consumes, a client's those that its code declares.
    declared = {} if "pools" in answer else {names_of(queue)[0]: DECLARED for queue in answer.get("queues", [])}
    return declared | dict.fromkeys(sorted(routes), "task_routes") | {str(conf.get("task_default_queue")): "task_default_queue"}


def unconsumed_jobs(node: str, answer: dict, queues: list, waivers: dict) -> list[str]:
    """Sentences for queues that the process sends jobs to and no worker of the application consumes."""
    return [
        f"{node}: {source(setting, queue)}, which no program of its workers consumes. Add it to the queues of a program in "
        f"celery_worker_programs, or waive {setting} with a reason in application_waivers."
        for queue, setting in sorted(queues_sent_to(answer).items(), key=lambda pair: (pair[1], pair[0]))
        if queues and queue not in queues and setting not in waivers
    ]


def unknown_waivers(node: str, answer: dict, queues: list, waived: dict) -> list[str]:
    """Sentences for waived queues that the application does not have."""
    known = {*queues, *queues_sent_to(answer), *(name for queue in answer.get("queues", []) for name in names_of(queue))}
    return [
        f"{node}: application_waived_queues names {queue}, which is not a queue of the application ({', '.join(sorted(known))}). "
        f"Correct the name, or take it out."
        for queue in waived
        if queue not in known
    ]


def broken(node: str, answer: dict, promises: dict, waivers: dict, waived_queues: dict | None = None) -> list[str]:
    """Sentences for each setting, task, pool and queue of a process that breaks a promise and is not waived."""
    promises = {setting: wanted for setting, wanted in promises.items() if setting not in waivers}
    conf, leaks = answer["conf"], answer.get("leaks")
    sentences = settings_lacking(node, answer["celery"], promises) if "celery" in answer else []
    sentences += settings_broken(node, conf, promises)
    if REDACTION in promises and conf.get(REDACTION) == promises[REDACTION] and leaks:
        sentences.append(f"{node}: task arguments show in {', and in '.join(leaks)}, but the promise needs {REDACTION}. {REMEDY}")
    sentences += tasks_broken(node, answer.get("tasks", []), promises)
    sentences += pool_broken(node, answer.get("pools", {}), promises) if "pools" in answer else []
    waived, destinations = waived_queues or {}, answer.get("destinations", {})
    priorities = [
        own["priority"]
        for name, own in map(task_settings, answer.get("tasks", []))
        if "priority" in own and own.get("queue", destinations.get(name)) not in waived
    ]
    sentences += priorities_lost(node, conf, priorities, promises, waived)
    return sentences + queues_broken(node, answer.get("queues", []), promises, waived)


def log_tail(logs: list) -> str:
    texts = [
        f"--- {log}\n" + "\n".join(Path(log).read_text(errors="replace").splitlines()[-LOG_LINES:])
        for log in logs
        if Path(log).exists()
    ]
    return "\n".join(texts)


def ask(module: AnsibleModule, *arguments: str) -> tuple[dict, str]:
    """Answer and stderr of grunnfjell_account, a file of role application, in the application's environment."""
    asked = module.params
    # An import of the application may hang.
    argv = ["timeout", str(asked["timeout"]), "runuser", "-u", asked["user"], "--", asked["run"]]
    argv += ["python", "-m", "grunnfjell_account", *arguments]
    code, out, err = module.run_command(argv, cwd="/")
    return json.loads(out.splitlines()[-1]) if code == 0 else {}, err


def of_workers(module: AnsibleModule) -> list[tuple[str, dict]]:
    """Each worker's name and answer, once all of them have answered."""
    asked = module.params
    deadline = time.monotonic() + asked["timeout"]
    while True:
        answer, err = ask(module, "workers", asked["app"], ",".join(ATTRIBUTES), *asked["nodes"])
        silent = [node for node in asked["nodes"] if not answer or any(node not in section for section in answer.values())]
        silent += [
            node for node in set(asked["nodes"]) - set(silent) if asked["fingerprint"] not in (None, answer["fingerprints"][node])
        ]
        if not silent:
            break
        if time.monotonic() > deadline:
            module.fail_json(
                msg=f"No answer of this release within {asked['timeout']} s (celery_worker_answer_timeout) "
                f"from {', '.join(silent)}.\n{err[-2000:]}\n{log_tail(asked['logs'])}"
            )
    return [(node, {kind: section[node] for kind, section in answer.items()}) for node in asked["nodes"]]


def findings(module: AnsibleModule, node: str, answer: dict) -> list[str]:
    promises, waivers, waived, queues = (module.params[key] for key in ("promises", "waivers", "waived_queues", "queues"))
    sentences = broken(node, answer, promises, waivers, waived) + unconsumed_jobs(node, answer, queues, waivers)
    return sentences + unknown_waivers(node, answer, queues, waived)


def of_code(module: AnsibleModule) -> list[tuple[str, dict]]:
    """Name and answer of each Celery application that a web process or, without one, a worker loads."""
    asked = module.params
    client = asked["client"]
    answer, err = ask(module, "clients", asked["app"], ",".join(ATTRIBUTES), *([client.partition(":")[0]] if client else []))
    if not answer:
        what = f"its settings and tasks. {UNTOUCHED}\n" if asked["code"] else "its Celery client:\n"
        module.fail_json(msg=f"{client or asked['app']} cannot be loaded to check {what}{err[-2000:]}")
    return [(f"the {'code' if asked['code'] else 'web process'} ({name})", state) for name, state in answer["clients"]]


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "run": {"type": "path", "required": True},
            "user": {"type": "str", "required": True},
            "app": {"type": "str", "required": True},
            "nodes": {"type": "list", "elements": "str", "default": []},
            "client": {"type": "str"},
            "code": {"type": "bool", "default": False},
            "logs": {"type": "list", "elements": "path", "default": []},
            "promises": {"type": "dict", "required": True},
            "waivers": {"type": "dict", "default": {}},
            "waived_queues": {"type": "dict", "default": {}},
            "queues": {"type": "list", "elements": "str", "default": []},
            "fingerprint": {"type": "str"},
            "timeout": {"type": "int", "default": 60},
        },
        supports_check_mode=True,
    )
    asked = module.params
    of_release = asked["code"] or asked["client"]
    if module.check_mode or not (asked["nodes"] or of_release):
        module.exit_json(changed=False, waived=asked["waivers"], consumed=[], sent={})
    answers = of_code(module) if of_release else of_workers(module)
    sentences = [sentence for name, answer in answers for sentence in findings(module, name, answer)]
    if sentences:
        verdict = f"The application breaks the promise{f'. {UNTOUCHED}' if asked['code'] else ':'}"
        module.fail_json(msg="\n".join([verdict, *(f"  * {sentence}" for sentence in dict.fromkeys(sentences))]))
    consumed = sorted({queue["name"] for _, answer in answers if "pools" in answer for queue in answer["queues"]})
    sent = {queue: setting for _, answer in answers for queue, setting in queues_sent_to(answer).items()}
    module.exit_json(changed=False, waived=asked["waivers"], consumed=consumed, sent=sent)


if __name__ == "__main__":
    main()
