#!/usr/bin/python
"""The status of a host's services, in one call."""

from __future__ import annotations

DOCUMENTATION = r"""
module: platform_status
short_description: Query the status of a host's services
description:
  - Queries the services in I(sections), all at once, and changes nothing. For a service that does not answer the result is
    C(error), not a failure.
options:
  sections:
    description: >-
      Section to its arguments. C(broker), C(database), C(bouncer), C(programs), C(application), C(producer),
      C(certificates), C(firewall), C(archive), C(backup), C(files), C(etcd), C(patroni), C(keepalived), C(updates), C(version),
      C(beats).
    type: dict
    required: true
author: maintainers
"""

EXAMPLES = r"""
- name: Query the database
  platform_status:
    sections: {database: {port: 5432}}
"""

RETURN = r"""
sections: {description: "Section to its answer, or C(error).", type: dict, returned: always}
"""

import http.client
import json
import os
import re
import ssl
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ..module_utils import (
    backup_status,
    beats,
    bounded,
    etcd_status,
    firewall_program,
    keepalived_status,
    kit_version,
    packages,
    patroni_status,
    pki_files,
    psql,
    publish_probe,
    queue_faults,
    rabbitmq_cli,
    restic_status,
    timer_status,
)
from ..module_utils.listening import deaf_addresses
from ..module_utils.rabbitmq_status import BROKER
from ..module_utils.supervisord import SOCKET, connect

# A quiet fleet answers in two seconds; a service that needs longer than this is broken. Long enough for a busy lab machine.
TIMEOUT_S = 20.0
# Within this a producer has its confirm, or answers 503.
PUBLISH_TIMEOUT_S = 3
# supervisord answers from memory; one that takes longer than this hangs.
SUPERVISORD_TIMEOUT_S = 3.0

DATABASE = """
SELECT json_build_object(
  'max_connections', current_setting('max_connections')::int,
  'reserved', current_setting('superuser_reserved_connections')::int,
  'backends', count(*) FILTER (WHERE backend_type = 'client backend'),
  'active', count(*) FILTER (WHERE backend_type = 'client backend' AND state = 'active'),
  'idle_in_transaction', count(*) FILTER (WHERE state LIKE 'idle in transaction%'),
  'waiting_for_locks', count(*) FILTER (WHERE wait_event_type = 'Lock'),
  'oldest_transaction_s',
    coalesce(extract(epoch FROM max(now() - xact_start) FILTER (WHERE backend_type = 'client backend')), 0)::int,
  'listen_addresses', current_setting('listen_addresses'),
  'accepts_writes', NOT pg_is_in_recovery())
FROM pg_stat_activity WHERE pid <> pg_backend_pid()
"""


class NoAnswer(Exception):
    """A message for the operator."""


def run(*argv: str, stdin: str = "") -> str:
    try:
        done = bounded.run(list(argv), TIMEOUT_S, stdin, cwd="/")
    except subprocess.TimeoutExpired as error:
        raise NoAnswer(f"no answer within {TIMEOUT_S:g} s") from error
    except FileNotFoundError as error:
        raise NoAnswer(f"{argv[0]} is not installed") from error
    if done.returncode:
        raise NoAnswer(" ".join((done.stderr or done.stdout).split())[:300] or f"{argv[0]} ended with {done.returncode}")
    return done.stdout


def broker(_: dict[str, Any]) -> dict[str, Any]:
    try:
        answer = rabbitmq_cli.ask(BROKER, timeout=TIMEOUT_S)
    except rabbitmq_cli.CliError as error:
        raise NoAnswer(str(error)) from error
    return answer | {"queues": [with_faults(queue, answer["version"]) for queue in answer["queues"]]}


def with_faults(queue: dict[str, Any], version: str) -> dict[str, Any]:
    return queue | {"faults": queue_faults.faults(queue, version), "known_as": queue_faults.names(queue)}


def database(wanted: dict[str, Any]) -> dict[str, Any]:
    answer = json.loads(psql.superuser(DATABASE, wanted["port"], TIMEOUT_S))
    deaf = deaf_addresses(answer.pop("listen_addresses"), wanted["port"])
    return {**answer, "not_listening": deaf}


def bouncer(wanted: dict[str, Any]) -> dict[str, Any]:
    def show(what: str) -> list[dict[str, str]]:
        return psql.console(f"SHOW {what}", wanted["socket_dir"], wanted["port"], TIMEOUT_S)

    return bouncer_figures(show("POOLS"), show("STATS"))


def bouncer_figures(pools: list[dict[str, str]], stats: list[dict[str, str]]) -> dict[str, Any]:
    """PgBouncer's tables without the console's rows, in whole numbers and seconds."""
    return {
        "pools": [
            {
                "database": pool["database"],
                "user": pool["user"],
                "clients_active": int(pool["cl_active"]),
                "clients_waiting": int(pool["cl_waiting"]),
                "servers": sum(int(pool[column]) for column in ("sv_active", "sv_idle", "sv_used", "sv_tested", "sv_login")),
                "longest_wait_s": int(pool["maxwait"]) + int(pool.get("maxwait_us") or 0) / 1e6,
            }
            for pool in pools
            if pool["database"] != "pgbouncer"
        ],
        "average_wait_s": max((int(row["avg_wait_time"]) / 1e6 for row in stats if row["database"] != "pgbouncer"), default=0.0),
    }


def programs(wanted: dict[str, Any]) -> dict[str, Any]:
    socket = wanted.get("socket", SOCKET)
    supervisor = connect(socket, SUPERVISORD_TIMEOUT_S)
    if supervisor is None:
        raise NoAnswer(f"supervisord does not answer on {socket}: it does not listen there")
    try:
        infos = supervisor.getAllProcessInfo()
    except (OSError, http.client.HTTPException) as error:
        raise NoAnswer(f"supervisord does not answer on {socket}: {error}") from error
    return {
        f"{info['group']}:{info['name']}" if info["group"] != info["name"] else info["name"]: {
            "state": info["statename"],
            "for_s": max(0, info["now"] - info["start"]) if info["pid"] else 0,
            "said": "" if info["statename"] == "RUNNING" else info["spawnerr"] or info["description"],
            "release": release_of(info["pid"]),
        }
        for info in infos
    }


def release_of(pid: int) -> str | None:
    """The release that a process runs, by the paths in its command line."""
    try:
        line = Path(f"/proc/{pid}/cmdline").read_bytes() if pid else b""
    except OSError:
        return None
    match = re.search(rb"/releases/([^/\0]+)/", line)
    return match[1].decode() if match else None


def application(wanted: dict[str, Any]) -> dict[str, Any]:
    link = Path("/opt") / wanted["name"] / "current"
    try:
        release = Path(os.readlink(link)).name
    except OSError as error:
        raise NoAnswer(f"no release is installed: {link} is missing") from error
    return {"name": wanted["name"], "release": release, "failed_timers": timer_status.failed(wanted["name"], TIMEOUT_S)}


def producer(wanted: dict[str, Any]) -> dict[str, Any]:
    began, urls = time.monotonic(), {"": f"https://{wanted['bind']}{wanted['path']}"}
    urls |= {server["name"]: f"https://{wanted['bind']}{server['health_path']}" for server in wanted.get("programs") or []}
    with ThreadPoolExecutor() as pool:
        answering = {name: pool.submit(answers, url, wanted["authorities"], wanted["names"]) for name, url in urls.items()}
        confirming = pool.submit(confirms, wanted["name"], wanted["user"], wanted["app"])
        servers = {name: {"url": url, "answers": answering[name].result()} for name, url in urls.items()}
        status = {**servers.pop(""), "servers": servers, "publish": confirming.result()}
    return {**status, "seconds": round(time.monotonic() - began, 3)}


def answers(url: str, authorities: str, names: list[str]) -> dict[str, Any]:
    try:
        # By the name that its clients use, as many applications answer to no other. The certificate is verified for the address.
        host = [f"[{name}]" if ":" in name else name for name in names[:1]]
        request = urllib.request.Request(url, headers=dict(zip(["Host"], host, strict=False)))
        verified = urllib.request.HTTPSHandler(context=ssl.create_default_context(cafile=authorities))
        with urllib.request.build_opener(urllib.request.ProxyHandler({}), verified).open(request, timeout=2) as answer:
            return {"ok": answer.status == 200, "error": "" if answer.status == 200 else f"it answers {answer.status}"}
    except urllib.error.HTTPError as error:
        return {"ok": False, "error": f"it answers {error.code}"}
    except (OSError, http.client.HTTPException) as error:
        return {"ok": False, "error": str(getattr(error, "reason", error)) or type(error).__name__}


def confirms(name: str, user: str, app: str) -> dict[str, Any]:
    try:
        program = publish_probe.__loader__.get_source(publish_probe.__name__)
        in_environment = ("runuser", "-u", user, "--", f"/opt/{name}/current/run")
        return json.loads(run(*in_environment, "python", "-c", program, str(PUBLISH_TIMEOUT_S), app))
    except (NoAnswer, json.JSONDecodeError) as error:
        return {"confirmed": False, "error": f"a publish could not be tried: {error}"}


def certificates(wanted: dict[str, Any]) -> dict[str, Any]:
    """Days left of each certificate of the host and of its authority, and the number below which a run renews it."""
    days = {}
    for name in pki_files.identities():
        days[name] = days_left(pki_files.text_of(os.path.join(pki_files.HOME, name, pki_files.CERTIFICATE)) or "")
    ends = [days_left(certificate) for certificate in pki_files.issuing()]
    return {"days": days, "authority_days": min(ends, default=None), **wanted}


def days_left(certificate: str) -> float:
    end = run("openssl", "x509", "-noout", "-enddate", stdin=certificate).strip().removeprefix("notAfter=")
    return round((ssl.cert_time_to_seconds(end) - time.time()) / 86400, 1)


def firewall(_: dict[str, Any]) -> dict[str, Any]:
    """Whether the kernel has the kit's rules, and whether they are those that a run confirmed."""
    loaded = firewall_program.fingerprint()
    return {"in_force": loaded is not None, "as_confirmed": f"{loaded}\n" == firewall_program.read(firewall_program.LOADED)}


def version(_: dict[str, Any]) -> dict[str, Any]:
    """The version of the kit that last ran on this host; null before 1.0."""
    return {"version": kit_version.recorded()}


def archive(wanted: dict[str, Any]) -> dict[str, Any]:
    return backup_status.archive(wanted, TIMEOUT_S)


def backup(wanted: dict[str, Any]) -> dict[str, Any]:
    return backup_status.backup(wanted, TIMEOUT_S)


def etcd(wanted: dict[str, Any]) -> dict[str, Any]:
    return etcd_status.member(wanted)


def patroni(wanted: dict[str, Any]) -> dict[str, Any]:
    return patroni_status.member(wanted)


def updates(wanted: dict[str, Any]) -> dict[str, Any]:
    """What the host waits for: newer packages of its services, and a reboot."""
    return {"updates": packages.pending(wanted["packages"]), "reboot_since": packages.reboot_due_since()}


SECTIONS: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
    "broker": broker,
    "database": database,
    "bouncer": bouncer,
    "programs": programs,
    "application": application,
    "producer": producer,
    "certificates": certificates,
    "firewall": firewall,
    "archive": archive,
    "backup": backup,
    "files": restic_status.files,
    "etcd": etcd,
    "patroni": patroni,
    "keepalived": keepalived_status.member,
    "updates": updates,
    "version": version,
    "beats": beats.of_host,
}


def ask(section: str, wanted: dict[str, Any]) -> dict[str, Any]:
    try:
        return SECTIONS[section](wanted)
    except Exception as error:  # one failed section must not cost the whole report
        return {"error": str(error) or type(error).__name__}


def main() -> None:
    module = AnsibleModule(argument_spec={"sections": {"type": "dict", "required": True}}, supports_check_mode=True)
    sections = {name: wanted or {} for name, wanted in module.params["sections"].items()}
    if unknown := sorted(set(sections) - set(SECTIONS)):
        module.fail_json(msg=f"No section {', '.join(unknown)}; there are {', '.join(SECTIONS)}.")
    with ThreadPoolExecutor(max_workers=len(SECTIONS)) as pool:
        answers_to_come = {name: pool.submit(ask, name, wanted) for name, wanted in sections.items()}
        module.exit_json(changed=False, sections={name: future.result() for name, future in answers_to_come.items()})


if __name__ == "__main__":
    main()
