"""An intruder in an application is confined to its account and files on the host.

Each attempt has a control to show that it would work: root can do it, and a trap works on the application that planted it.
"""

from __future__ import annotations

import shlex
import shutil
from collections.abc import Callable, Iterator

import pytest
from authority import REPOSITORY

testinfra_hosts = ["ansible://celery_worker"]
pytestmark = [pytest.mark.once, pytest.mark.disruptive, pytest.mark.scenario]

FOLDER = "/var/lib/grunnfjell-reach"

# What the application tries on its host.
ATTEMPTS = {
    "put a link where root opens a log": "ln -s /etc/shadow {logs}/reach.log",
    "write to another program's log": ": >> {logs}/worker.err.log",
    "command supervisord": "python3 -c 'import socket; socket.socket(socket.AF_UNIX).connect(\"/run/supervisor.sock\")'",
    "signal supervisord": "kill -0 $(cat /run/supervisord.pid)",
    "declare a program that runs as root": "touch /etc/supervisor/conf.d/reach",
    "add a module that each Python of the release loads": "touch $(echo {release}/venv/lib/python3*/site-packages)/reach.pth",
    "add a module to the settings' directory, which is on Python's path": "touch {settings}/reach.py",
    "change the settings that the next check loads": ": >> {settings}/grunnfjell_settings.py",
    "change the script that runs its programs": ": >> {release}/run",
    "change an entry point": ": >> {release}/venv/bin/celery",
    "plant the link to the next release": "ln -s /tmp {release}/../../.reach",
    "plant a timer of systemd": "touch /etc/systemd/system/reach.timer",
    "become root": "setpriv --reuid=0 --clear-groups true",
    "read the environment of another account's process": "cat /proc/1/environ",
    "read the passwords of the host": "cat /etc/shadow",
    "read the host's key": "cat /etc/ssh/ssh_host_ed25519_key",
}
CLEAN = "rm -f {logs}/reach.log {release}/../../.reach {release}/venv/lib/python3*/site-packages/reach.pth {settings}/reach.py \
/etc/supervisor/conf.d/reach /etc/systemd/system/reach.timer"
REFUSALS = ("Permission denied", "Operation not permitted", "setresuid failed")

# Records the user that runs it. Python loads each of these names from a directory on its path.
RECORD = f"import os; open('{FOLDER}/ran', 'a').write(str(os.getuid()) + '\\n')"
MODULES = ("sitecustomize.py", "usercustomize.py", "ansible.py", "supervisor.py", "grunnfjell_account.py")
# Traps in the application's directories for a root process that follows links, reads every file or trusts file names.
PLANT = f"""
ln -s {FOLDER}/root/secret shadow.err.log
ln -s {FOLDER}/root celerybeat-schedule.d
mkfifo worker.err.log
truncate -s 1T huge.log
touch "$(printf 'new\\nline')" 'two words' "quote'\\"" '$(touch reached)' --reference=x
printf '#!/bin/sh\\nid -u >> {FOLDER}/ran\\n' > python3; chmod 755 python3; cp python3 sh
"""
# Listens under a process name that a careless parser of /proc takes for systemd. Ends after 900 s at the latest.
LISTENER = """
import ctypes, socket, time
ctypes.CDLL(None).prctl(15, b"systemd\\nPPid:\\t1", 0, 0, 0)
held = socket.create_server(("127.0.0.1", 5999))
time.sleep(900)
"""


@pytest.fixture(scope="module")
def paths(host, inputs) -> dict[str, str]:
    name = inputs["application_name"]
    release = host.check_output("readlink -f /opt/%s/current", name)
    return {
        "logs": inputs["celery_worker_log_directory"],
        "release": release,
        "settings": f"/etc/{name}",
        "state": f"/var/lib/{name}",
    }


@pytest.fixture(scope="module")
def application(host, inputs) -> Callable:
    """A shell of the application's account, without the further confinement of its programs."""
    return lambda command: host.run(f"cd / && runuser -u {inputs['application_user']} -- sh -c {shlex.quote(command)}")


def test_an_application_reads_and_changes_nothing_else_on_its_host(host, application, paths):
    try:
        for aim, command in ATTEMPTS.items():
            command = command.format(**paths)
            result = application(command)
            assert result.rc and any(words in result.stderr for words in REFUSALS), f"the application could {aim}: {result}"
            control = host.run(command)
            assert control.rc == 0, f"root cannot {aim} either: {control.stderr}"
    finally:
        host.run(CLEAN.format(**paths))


@pytest.fixture
def planted(host, inputs, application, paths) -> Iterator[str]:
    """A secret of root, and traps in every directory that the application can write to. Returns the command that lists them."""
    user, state = inputs["application_user"], paths["state"]
    host.check_output(
        f"install -d -m 755 {FOLDER} && install -d -m 700 {FOLDER}/root && install -o {user} /dev/null {FOLDER}/ran"
    )
    host.check_output(f"umask 077; echo of-root-alone > {FOLDER}/root/secret")
    folders = [f"{state}/reach", "/tmp/reach", "/var/tmp/reach"]
    modules = "; ".join(f"printf %s {shlex.quote(RECORD)} > {name}" for name in MODULES)
    names = host.check_output(f"ls -A {state}").split()
    try:
        for folder in folders:
            result = application(f"mkdir {folder} && cd {folder} && {modules} && {PLANT}")
            assert result.rc == 0, result.stderr
        # Programs and modules of the run have their working and temporary files in these directories.
        result = application(f"cd {state} && mv reach/* . && cd /tmp && cp reach/*.py . && cd /var/tmp && cp reach/*.py .")
        assert result.rc == 0, result.stderr
        unit = f"--unit=grunnfjell-reach-named --uid={user} --property=WorkingDirectory={state}"
        host.check_output(f"systemd-run --quiet --collect {unit} /usr/bin/python3 -c {shlex.quote(LISTENER)}")
        yield f"find {FOLDER}/root {state} ! -path '{state}/celerybeat*' -printf '%p %u %m %y %s %l\\n' | LC_ALL=C sort"
    finally:
        host.run("systemctl stop grunnfjell-reach-named")
        keep = " ".join(f"! -name {shlex.quote(name)}" for name in names)
        host.run(f"rm -rf {FOLDER} {' '.join(folders)}; find {state} -mindepth 1 -maxdepth 1 {keep} -exec rm -rf {{}} +")
        host.run("cd /tmp && rm -f {0}; cd /var/tmp && rm -f {0}".format(" ".join(MODULES)))


def test_a_run_follows_no_trap_that_an_application_planted(host, inputs, converge, application, paths, planted, tmp_path):
    """The run builds a release and restarts the programs, with all traps in place."""
    assert application(f"cd {paths['state']} && PYTHONPATH=. python3 -c '' && ./sh").rc == 0
    ran = host.check_output(f"cat {FOLDER}/ran").split()
    assert len(ran) >= 2 and "0" not in ran, f"the traps do not work: {ran}"
    assert host.run(f"cat {paths['state']}/shadow.err.log").stdout.strip() == "of-root-alone"
    before = host.check_output(planted)
    source = shutil.copytree(REPOSITORY / "examples" / "newsroom", tmp_path / "newsroom")
    (source / "reach.txt").write_text("another release\n")
    try:
        run = converge("playbooks/celery_worker.yml", application_source={"directory": str(source)})
        assert run.returncode == 0, run.output
        assert host.check_output("readlink -f /opt/newsroom/current") != paths["release"], "no release was built"
        assert "of-root-alone" not in run.output
        facts = host.ansible("grunnfjell.platform.resource_facts", check=False)["ansible_facts"]["resources"]
        (listener,) = [socket for socket in facts["listening"] if socket["port"] == 5999]
        assert listener["user"] == inputs["application_user"], listener
    finally:
        assert converge("playbooks/celery_worker.yml").returncode == 0
    assert "0" not in host.check_output(f"cat {FOLDER}/ran").split(), "root ran what the application planted"
    assert host.check_output(planted) == before
    assert host.check_output(f"cat {FOLDER}/root/secret") == "of-root-alone"
    assert "of-root-alone" not in host.check_output(f"cat {paths['logs']}/*.log")
