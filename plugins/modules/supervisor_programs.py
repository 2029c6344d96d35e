#!/usr/bin/python
"""Applies one of supervisord's configuration files, and restarts only programs whose section changed."""

DOCUMENTATION = r"""
module: supervisor_programs
short_description: Apply a file of supervisord's configuration
description:
  - Writes one file of supervisord's configuration, adds its new programs, stops and removes those that it no longer declares, and
    restarts those whose section changed. Other programs and supervisord itself are not touched.
  - Programs that must stop are stopped at the same time, while C(supervisorctl update) waits for one after another.
  - Unless I(disturb) is set, a change that would stop a program is postponed, and so is its file, so a reboot in the meantime
    starts the former version.
  - supervisord's parser reads the content before the file is put in place, and a file that supervisord then still refuses is
    reverted. An unreadable file of an earlier run is replaced first.
options:
  path: {description: The file., type: path, required: true}
  content: {description: Its whole content; without it the file is removed., type: str}
  disturb: {description: Whether programs may be stopped or restarted., type: bool, default: true}
  postpone:
    description: Whether, unless I(disturb) is set, a change waits that stops no program either.
    type: bool
    default: false
  up_within:
    description: Seconds within which the declared programs must be RUNNING; 0 not to wait.
    type: int
    default: 0
  socket: {description: supervisord's socket., type: path, default: /run/supervisor.sock}
author: maintainers
"""

EXAMPLES = r"""
- name: Restart only the programs whose section changed
  supervisor_programs:
    path: /etc/supervisor/conf.d/celery_worker.conf
    content: "{{ lookup('rendered', 'etc/supervisor/conf.d/programs.conf.j2') }}"
"""

RETURN = r"""
added: {description: Programs that were added., type: list, elements: str, returned: always}
restarted: {description: Programs whose section had changed., type: list, elements: str, returned: always}
removed: {description: Programs that were removed., type: list, elements: str, returned: always}
pending: {description: Whether a program waits for its restart., type: bool, returned: always}
stops: {description: Programs that the file stops or restarts by its content., type: list, elements: str, returned: always}
previous: {description: The file's former content; null if it did not exist., type: str, returned: always}
"""

import configparser
import contextlib
import http.client
import io
import os
import re
import time
import xmlrpc.client
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ..module_utils.supervisord import POLL_SECONDS, connect, full_name, processes, stopped, wait_until_stopped, wait_until_up
from ..module_utils.whole_files import ManagedFile, current_content, diff_of, usual_umask, write_files

LOG_LINES = 15
# systemd restarts a supervisord that cannot read its files every half second (role supervisor).
LISTEN_SECONDS = 15
CANT_REREAD = 92  # supervisor.xmlrpc.Faults
IPV6_SOCKET = re.compile(r"tcp://\[[0-9A-Fa-f:.]+\]:")


def sections(text: str) -> dict[str, dict[str, str]]:
    """Program to its settings; the empty key holds the section's type."""
    parser = configparser.RawConfigParser(inline_comment_prefixes=None, strict=False)
    parser.read_string(text)
    kinds = {"program", "fcgi-program", "eventlistener"}
    named = [(section.partition(":"), dict(parser[section])) for section in parser.sections()]
    return {name: {"": kind, **settings} for (kind, _, name), settings in named if kind in kinds}


def leaving(before: str, after: str) -> set[str]:
    """Programs whose section changes or is removed, so they would stop."""
    old, new = sections(before), sections(after)
    return {name for name in old if old[name] != new.get(name)}


def complaint(text: str) -> str | None:
    """supervisord's error for the text; None if it can read it, or if its parser cannot be imported."""
    try:
        from supervisor.options import ServerOptions
    except ImportError:
        return None  # the module runs under another Python; a file that supervisord then refuses is still reverted
    options = ServerOptions()
    # The supervisord of role supervisor accepts an IPv6 address here; Debian's parser does not.
    text = IPV6_SOCKET.sub("tcp://127.0.0.1:", text)
    options.configfile = io.StringIO(f"[supervisord]\n{text}")
    try:
        options.process_config(do_usage=False)
    except Exception as error:  # the parser has no common exception
        return str(error)
    return None


def listening(socket: str, seconds: float) -> Any:
    """supervisord, once it answers; None if it does not within the seconds."""
    deadline = time.monotonic() + seconds
    while True:
        if supervisor := connect(socket):
            try:
                supervisor.getState()
            except OSError:  # the socket of a dead supervisord
                pass
            else:
                return supervisor
        if time.monotonic() > deadline:
            return None
        time.sleep(POLL_SECONDS)


def waiting(supervisor) -> list[str]:
    """The running programs that supervisord would stop now, since the files on disk differ from its configuration."""
    _, changed, removed = supervisor.reloadConfig()[0]
    return [*changed, *removed]


def update(supervisor) -> dict[str, list[str]]:
    """Applies the configuration files; returns the names of added, restarted and removed programs."""
    added, changed, removed = supervisor.reloadConfig()[0]
    going = [*changed, *removed]
    for group in going:
        supervisor.stopProcessGroup(group, False)
    wait_until_stopped(supervisor, going)
    for group in going:
        supervisor.removeProcessGroup(group)
    for group in [*changed, *added]:
        supervisor.addProcessGroup(group)
    return {"added": added, "restarted": changed, "removed": removed}


def write(path: str, before: str | None, content: str | None, check_mode: bool) -> dict:
    """Writes or removes the file; returns whether that changed anything, and the diff."""
    if content is not None:
        written = write_files([ManagedFile(path, content, "root", "root", 0o644)], check_mode)
        return {"changed": bool(written.changed), "diff": written.diffs}
    if before is None:
        return {"changed": False, "diff": []}
    if not check_mode:
        os.unlink(path)
    return {"changed": True, "diff": [diff_of(path, before, "", False)]}


def apply(supervisor, path: str, before: str | None, content: str | None, disturb: bool, postpone: bool) -> dict:
    """Writes and applies the file, unless that must wait; reverts it if supervisord refuses it."""
    if not disturb and (postpone or leaving(before or "", content or "") or waiting(supervisor)):
        return {"changed": False, "pending": True}
    running = {full_name(process) for process in supervisor.getAllProcessInfo() if not stopped(process)}
    result = write(path, before, content, False)
    try:
        done = update(supervisor)
    except (xmlrpc.client.Fault, xmlrpc.client.ProtocolError):
        write(path, content, before, False)
        revert(supervisor, running)
        raise
    return result | done | {"changed": result["changed"] or any(done.values())}


def revert(supervisor, running: set[str]) -> None:
    """Applies the former file. The first error is the one to report.

    A program that was stopped but not yet removed counts as unchanged, so it is started here.
    """
    with contextlib.suppress(xmlrpc.client.Fault, xmlrpc.client.ProtocolError):
        update(supervisor)
        for process in supervisor.getAllProcessInfo():
            if full_name(process) in running and process["statename"] == "STOPPED":
                supervisor.startProcess(full_name(process), False)


def main() -> None:
    usual_umask()
    module = AnsibleModule(
        argument_spec={
            "path": {"type": "path", "required": True},
            "content": {"type": "str"},
            "disturb": {"type": "bool", "default": True},
            "postpone": {"type": "bool", "default": False},
            "up_within": {"type": "int", "default": 0},
            "socket": {"type": "path", "default": "/run/supervisor.sock"},
        },
        supports_check_mode=True,
    )
    path, content = module.params["path"], module.params["content"]
    before = current_content(path)
    if module.check_mode:
        # In check mode the diff of the file predicts the change.
        nothing = {"added": [], "restarted": [], "removed": [], "pending": False, "stops": []}
        module.exit_json(**nothing, previous=before, **write(path, before, content, True))
    if refused := complaint(content or ""):
        module.fail_json(msg=f"{path} was not written, because supervisord cannot read it: {refused}")
    repaired = complaint(before or "") is not None
    if repaired:
        # supervisord may be down because of the unreadable file, so it is replaced first.
        write(path, before, content, False)
        before = content
    stops = sorted(leaving(before or "", content or ""))
    result = {"added": [], "restarted": [], "removed": [], "pending": False, "stops": stops, "previous": before}
    supervisor = listening(module.params["socket"], LISTEN_SECONDS)
    if not supervisor:
        module.fail_json(msg=f"supervisord does not listen on {module.params['socket']}. See: journalctl -u supervisor")
    try:
        result |= apply(supervisor, path, before, content, module.params["disturb"], module.params["postpone"])
        result["changed"] |= repaired
    except xmlrpc.client.Fault as fault:
        advice = "See: supervisorctl reread" if fault.faultCode == CANT_REREAD else "See: journalctl -u supervisor"
        if fault.faultCode == CANT_REREAD and IPV6_SOCKET.search(content or ""):
            advice = (
                "A supervisord that was started before role supervisor knew IPv6 sockets needs one restart: "
                "systemctl restart supervisor, which waits for running tasks"
            )
        module.fail_json(**result, msg=f"supervisord refuses {path}: {fault.faultString}. {advice}")
    except xmlrpc.client.ProtocolError as error:  # e.g. the port of a socket is occupied
        module.fail_json(**result, msg=f"supervisord cannot carry out {path} ({error.errmsg}). See: journalctl -u supervisor")
    except (OSError, http.client.HTTPException) as error:  # it died or is frozen; a rollback needs the result
        module.fail_json(
            **result, msg=f"supervisord did not answer, asked to apply {path}: {error}. See: journalctl -u supervisor"
        )
    wanted = [] if result["pending"] else list(sections(content or ""))
    seconds = module.params["up_within"]
    late = wait_until_up(lambda: processes(supervisor, wanted), seconds) if seconds and wanted else []
    if late:
        module.fail_json(**result, msg="\n".join(map(sentence, late)))
    module.exit_json(**result)


def sentence(process: dict) -> str:
    """The state of a program that does not come up, with the end of its log."""
    log = Path(process["stderr_logfile"] or os.devnull)
    tail = log.read_text(errors="replace").splitlines()[-LOG_LINES:] if log.is_file() else []
    return "\n".join([f"{full_name(process)} is {process['statename']} ({process['description']}).", *tail])


if __name__ == "__main__":
    main()
