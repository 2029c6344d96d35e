#!/usr/bin/python
"""Replaces the processes of programs that share a listening socket each, without refusing a connection."""

DOCUMENTATION = r"""
module: supervisor_handover
short_description: Replace the processes of programs one by one
description:
  - Each program is an C(fcgi-program) of supervisord with several processes. supervisord holds their listening socket and
    passes it to each as standard input, so it stays open while one of them is replaced.
  - Its section only calls the script at its path with the number of the process, since a changed section would close the socket.
  - New scripts are first tested on private sockets. If one does not answer there, no script is written, no process replaced, and
    no client ever connects to any of them.
  - A program that supervisord does not have yet is new. Next to programs that run, its script waits and is tested as theirs.
options:
  programs:
    description: The programs that change together.
    type: list
    elements: dict
    required: true
    suboptions:
      program: {description: Name of the program., type: str, required: true}
      path: {description: The script., type: path, required: true}
      content:
        description: Its content, with a line C(APPLICATION_FINGERPRINT=...) that it exports; without it the script stays.
        type: str
      health: {description: Path that answers 200., type: str, default: /healthz}
  disturb:
    description: Whether processes may be replaced; otherwise a change waits, all scripts too.
    type: bool
    default: true
  user: {description: Account of the programs., type: str, required: true}
  directory: {description: Working directory of the programs., type: path, required: true}
  restarts:
    description: Programs that a restart follows, which replaces their processes. Their new scripts are only tried and written.
    type: list
    elements: str
    default: []
  trial: {description: Whether to try new scripts first; those that ran before need no trial., type: bool, default: true}
  host: {description: "The name or address to ask by (Host).", type: str, default: 127.0.0.1}
  timeout: {description: Seconds until each must answer., type: int, default: 60}
  socket: {description: supervisord's socket., type: path, default: /run/supervisor.sock}
author: maintainers
"""

EXAMPLES = r"""
- name: Replace the processes with the new release
  supervisor_handover:
    programs:
      - program: producer
        path: /etc/supervisor/programs/producer
        content: "{{ lookup('rendered', 'etc/supervisor/programs/producer.j2') }}"
    user: www-data
    directory: /var/lib/newsroom
"""

RETURN = r"""
replaced: {description: Processes that were replaced., type: list, elements: str, returned: always}
pending: {description: Whether processes wait to be replaced., type: bool, returned: always}
previous:
  description: I(programs) with the former content of their scripts, for a handover back. Programs without a script are left out.
  type: list
  elements: dict
  returned: always
"""

import grp
import http.client
import os
import pwd
import re
import signal
import socket
import subprocess
import tempfile
import time
import xmlrpc.client
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ..module_utils.supervisord import connect, full_name, processes, stopped, wait_until_up
from ..module_utils.whole_files import ManagedFile, current_content, usual_umask, write_files

LOG_LINES = 25
# A trial has no clients to wait for.
STOP_SECONDS = 10
POLL_SECONDS = 0.2


def fingerprint(script: str) -> str:
    match = re.search(r"^(?:export )?APPLICATION_FINGERPRINT=(\w+)", script, re.MULTILINE)
    return match[1] if match else ""


def runs(pid: int, user: str, wanted: str) -> bool:
    """Whether the process was started by the script with this fingerprint."""
    # In a container, root without CAP_SYS_PTRACE cannot read it, but the account can.
    environment = subprocess.run(["runuser", "-u", user, "--", "cat", f"/proc/{pid}/environ"], capture_output=True, check=False)
    return f"APPLICATION_FINGERPRINT={wanted}".encode() in environment.stdout.split(b"\0")


def outdated(supervisor, program: str, user: str, wanted: str) -> list[dict]:
    """The processes that are stopped or run another version."""
    return [process for process in processes(supervisor, [program]) if stopped(process) or not runs(process["pid"], user, wanted)]


class UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=5)
        self.path = str(path)

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self.path)


def answers(listening: Path, path: str, host: str = "127.0.0.1") -> bool:
    """Whether a server answers 200 to what nginx would send it from a client with HTTPS."""
    connection = UnixConnection(listening)
    headers = {"Host": f"[{host}]" if ":" in host else host, "X-Forwarded-Proto": "https"}
    try:
        connection.request("GET", path, headers=headers)
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def trial(script: Path, user: str, directory: str, answering: Callable[[Path], bool], seconds: float) -> str:
    """Runs the script on a private socket; returns the end of its log if it does not answer, else an empty text."""
    account = pwd.getpwnam(user)
    groups = [group.gr_gid for group in grp.getgrall() if user in group.gr_mem]
    with (
        tempfile.TemporaryDirectory() as private,
        socket.socket(socket.AF_UNIX) as listening,
        tempfile.TemporaryFile() as log,
    ):
        place = Path(private) / "socket"
        listening.bind(str(place))
        listening.listen()
        server = subprocess.Popen(
            [str(script), "0"],
            stdin=listening,
            stdout=log,
            stderr=log,
            cwd=directory,
            env={"PATH": os.defpath},
            user=account.pw_uid,
            group=account.pw_gid,
            extra_groups=groups,
            start_new_session=True,
        )
        deadline = time.monotonic() + seconds
        try:
            while not (healthy := answering(place)) and server.poll() is None and time.monotonic() < deadline:
                time.sleep(POLL_SECONDS)
        finally:
            server.terminate()
            try:
                server.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                os.killpg(server.pid, signal.SIGKILL)
                server.wait()
        if healthy:
            return ""
        log.seek(0)
        return "\n".join(log.read().decode(errors="replace").splitlines()[-LOG_LINES:]) or "It printed nothing."


def replace(supervisor, process: dict, seconds: float) -> list[dict]:
    """Restarts one process; returns it if it does not come up."""
    name = full_name(process)
    if process["statename"] not in ("STOPPED", "EXITED", "FATAL"):
        supervisor.stopProcess(name, False)
    while not stopped(supervisor.getProcessInfo(name)):
        time.sleep(POLL_SECONDS)
    supervisor.startProcess(name, False)
    return wait_until_up(lambda: [supervisor.getProcessInfo(name)], seconds)


PROGRAM = {
    "program": {"type": "str", "required": True},
    "path": {"type": "path", "required": True},
    "content": {"type": "str"},
    "health": {"type": "str", "default": "/healthz"},
}


@dataclass(frozen=True)
class Program:
    """A program with its script as it is on the host, and as it shall be.  Both are None where there is no script."""

    name: str
    path: str
    before: str | None
    content: str | None
    health: str

    @property
    def script(self) -> ManagedFile:
        return ManagedFile(self.path, self.content or "", "root", "root", 0o755)


def program_of(given: dict[str, Any]) -> Program:
    before = current_content(given["path"])
    return Program(given["program"], given["path"], before, given["content"] or before, given["health"])


def complaint(program: Program, asked: dict[str, Any]) -> str:
    """Why the program's new script fails its trial; empty if it answers."""
    rehearsal = Path(program.path).with_name(f".{program.name}.trial")
    write_files([ManagedFile(str(rehearsal), program.content or "", "root", "root", 0o755)], False)
    try:
        log = trial(
            rehearsal,
            asked["user"],
            asked["directory"],
            lambda listening: answers(listening, program.health, asked["host"]),
            asked["timeout"],
        )
    finally:
        rehearsal.unlink()
    return log and (
        f"{program.name} did not answer 200 at {program.health} (Host: {asked['host']}) "
        f"within {asked['timeout']} s in its trial; no client was connected to it.\n{log}"
    )


def main() -> None:
    usual_umask()
    module = AnsibleModule(
        argument_spec={
            "programs": {"type": "list", "elements": "dict", "options": PROGRAM, "required": True},
            "disturb": {"type": "bool", "default": True},
            "user": {"type": "str", "required": True},
            "directory": {"type": "path", "required": True},
            "restarts": {"type": "list", "elements": "str", "default": []},
            "trial": {"type": "bool", "default": True},
            "host": {"type": "str", "default": "127.0.0.1"},
            "timeout": {"type": "int", "default": 60},
            "socket": {"type": "path", "default": "/run/supervisor.sock"},
        },
        supports_check_mode=True,
    )
    asked = module.params
    programs = [program for program in map(program_of, asked["programs"]) if program.content is not None]
    former = {program.name: program.before for program in programs if program.before is not None}
    previous = [given | {"content": former[given["program"]]} for given in asked["programs"] if given["program"] in former]
    result = {"replaced": [], "pending": False, "previous": previous}
    try:
        hand_over(module, programs, result)
    except xmlrpc.client.Fault as fault:
        see = f"See: supervisorctl status {' '.join(f'{program.name}:*' for program in programs)}"
        module.fail_json(**result, msg=f"supervisord refuses: {fault.faultString}. {see}")
    except (OSError, http.client.HTTPException, xmlrpc.client.ProtocolError) as error:  # a rollback needs the result
        module.fail_json(**result, msg=f"supervisord did not answer in the handover: {error}. See: journalctl -u supervisor")


def hand_over(module: AnsibleModule, programs: list[Program], result: dict[str, Any]) -> None:
    """Ends the module, with what it replaced in the result."""
    asked = module.params
    supervisor = connect(asked["socket"])
    names = [program.name for program in programs]
    present = {process["group"] for process in processes(supervisor, names)} if supervisor else set()
    waiting = {
        program.name: outdated(supervisor, program.name, asked["user"], fingerprint(program.content or ""))
        for program in programs
        if program.name in present
    }
    new = [program.name for program in programs if present and program.name not in present]
    due = bool(new or any(waiting.values()))
    if module.check_mode or not due:
        written = write_files([program.script for program in programs], module.check_mode)
        module.exit_json(changed=bool(written.changed or due), diff=written.diffs, **result)
    if not asked["disturb"]:
        module.exit_json(changed=False, **result | {"pending": True})
    for program in programs if asked["trial"] else ():
        # The script of a new program may be left from a run that was cut off before its trial counted.
        tried = program.content == program.before and program.name not in new
        if not tried and (problem := complaint(program, asked)):
            module.fail_json(**result, msg=problem)
    written = write_files([program.script for program in programs], False)
    for process in [process for name in waiting if name not in asked["restarts"] for process in waiting[name]]:
        if late := replace(supervisor, process, asked["timeout"]):
            module.fail_json(**result, msg=f"{full_name(process)} does not come up: it is {late[0]['statename']}.")
        result["replaced"].append(full_name(process))
    module.exit_json(changed=True, diff=written.diffs, **result)


if __name__ == "__main__":
    main()
