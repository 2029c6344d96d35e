"""An application that was taken over stays within its own account and files on its host.

Each attempt has a control that shows that it would work: root can do what the application asks, and a trap works on the
application that planted it.
"""

from __future__ import annotations

import shlex
import shutil
from collections.abc import Callable, Iterator

import pytest
from authority import REPOSITORY
from playbook_runner import play

testinfra_hosts = ["ansible://celery_worker"]
pytestmark = [pytest.mark.once, pytest.mark.disruptive, pytest.mark.scenario]

FOLDER = "/var/lib/grunnfjell-reach"

# What the application tries on its host. Root can do each of them; {logs}, {release} and {settings} are filled in.
ATTEMPTS = {
    "put a link where root opens a log": "ln -s /etc/shadow {logs}/reach.log",
    "write to another program's log": ": >> {logs}/worker.err.log",
    "command supervisord": "python3 -c 'import socket; socket.socket(socket.AF_UNIX).connect(\"/run/supervisor.sock\")'",
    "signal supervisord": "kill -0 $(cat /run/supervisord.pid)",
    "declare a program that runs as root": "touch /etc/supervisor/conf.d/reach",
    "add a module that each Python of the release loads": "touch $(echo {release}/venv/lib/python3*/site-packages)/reach.pth",
    "add a module to the settings' directory, which is on Python's path": "touch {settings}/reach.py",
    "change the settings that the next check loads": ": >> {settings}/celeryconfig.py",
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

# Code that records as whom it ran. Python loads it by each of these names from a directory on its path.
RECORD = f"import os; open('{FOLDER}/ran', 'a').write(str(os.getuid()) + '\\n')"
MODULES = ("sitecustomize.py", "usercustomize.py", "ansible.py", "supervisor.py", "grunnfjell_account.py")
# What the application leaves in its directories for a root that follows links, reads all files or trusts their names.
PLANT = f"""
ln -s {FOLDER}/root/secret shadow.err.log
ln -s {FOLDER}/root celerybeat-schedule.d
mkfifo worker.err.log
truncate -s 1T huge.log
touch "$(printf 'new\\nline')" 'two words' "quote'\\"" '$(touch reached)' --reference=x
printf '#!/bin/sh\\nid -u >> {FOLDER}/ran\\n' > python3; chmod 755 python3; cp python3 sh
"""
# A process that listens under a name that could be read as other fields of /proc, or be taken for systemd. The test stops it;
# it ends after 900 s at the latest.
NAMED = """
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
    """A shell of the application's account; outside the confinement of its programs, which would forbid more."""
    return lambda command: host.run(f"cd / && runuser -u {inputs['application_user']} -- sh -c {shlex.quote(command)}")


def test_an_application_gets_nothing_of_its_host_that_is_not_its_own(host, application, paths):
    """What root reads, runs and writes, the application cannot change; what is another's it cannot read."""
    try:
        for aim, command in ATTEMPTS.items():
            tried = command.format(**paths)
            done = application(tried)
            assert done.rc and any(words in done.stderr for words in REFUSALS), f"the application could {aim}: {done}"
            control = host.run(tried)
            assert control.rc == 0, f"root cannot {aim} either: {control.stderr}"
    finally:
        host.run(CLEAN.format(**paths))


@pytest.fixture
def planted(host, inputs, application, paths) -> Iterator[str]:
    """A secret of root, and what the application plants in the directories that it may write to; the output of a listing."""
    user, state = inputs["application_user"], paths["state"]
    host.check_output(
        f"install -d -m 755 {FOLDER} && install -d -m 700 {FOLDER}/root && install -o {user} /dev/null {FOLDER}/ran"
    )
    host.check_output(f"umask 077; echo of-root-alone > {FOLDER}/root/secret")
    homes = [f"{state}/reach", "/tmp/reach", "/var/tmp/reach"]
    modules = "; ".join(f"printf %s {shlex.quote(RECORD)} > {name}" for name in MODULES)
    named = ["systemd-run", "--quiet", "--collect", "--unit=grunnfjell-reach-named", f"--uid={user}"]
    names = host.check_output(f"ls -A {state}").split()
    try:
        for home in homes:
            done = application(f"mkdir {home} && cd {home} && {modules} && {PLANT}")
            assert done.rc == 0, done.stderr
        # Into the directories themselves, where programs and modules of the run have their working and temporary files.
        done = application(f"cd {state} && mv reach/* . && cd /tmp && cp reach/*.py . && cd /var/tmp && cp reach/*.py .")
        assert done.rc == 0, done.stderr
        host.check_output(f"{shlex.join(named)} --property=WorkingDirectory={state} /usr/bin/python3 -c {shlex.quote(NAMED)}")
        yield f"find {FOLDER}/root {state} ! -path '{state}/celerybeat*' -printf '%p %u %m %y %s %l\\n' | LC_ALL=C sort"
    finally:
        host.run("systemctl stop grunnfjell-reach-named")
        keep = " ".join(f"! -name {shlex.quote(name)}" for name in names)
        host.run(f"rm -rf {FOLDER} {' '.join(homes)}; find {state} -mindepth 1 -maxdepth 1 {keep} -exec rm -rf {{}} +")
        host.run("cd /tmp && rm -f {0}; cd /var/tmp && rm -f {0}".format(" ".join(MODULES)))


def test_a_run_follows_nothing_that_an_application_planted(host, inputs, request, application, paths, planted, tmp_path):
    """A run that builds a release and restarts the programs, with all traps in place."""
    assert application(f"cd {paths['state']} && PYTHONPATH=. python3 -c '' && ./sh").rc == 0
    ran = host.check_output(f"cat {FOLDER}/ran").split()
    assert len(ran) >= 2 and "0" not in ran, f"the traps do not work: {ran}"
    assert host.run(f"cat {paths['state']}/shadow.err.log").stdout.strip() == "of-root-alone"
    before = host.check_output(planted)
    source = shutil.copytree(REPOSITORY / "examples" / "newsroom", tmp_path / "newsroom")
    (source / "reach.txt").write_text("another release\n")
    limit = ["--limit", host.backend.get_hostname()]
    inventory = request.config.option.ansible_inventory
    try:
        done = play(
            inventory, "playbooks/celery_worker.yml", *limit, variables={"application_source": {"directory": str(source)}}
        )
        assert done.returncode == 0, done.printed
        assert host.check_output("readlink -f /opt/newsroom/current") != paths["release"], "no release was built"
        assert "of-root-alone" not in done.printed
        facts = host.ansible("grunnfjell.platform.resource_facts", check=False)["ansible_facts"]["resources"]
        (own,) = [each for each in facts["listening"] if each["port"] == 5999]
        assert own["user"] == inputs["application_user"], own
    finally:
        assert play(inventory, "playbooks/celery_worker.yml", *limit).returncode == 0
    assert "0" not in host.check_output(f"cat {FOLDER}/ran").split(), "root ran what the application planted"
    assert host.check_output(planted) == before
    assert host.check_output(f"cat {FOLDER}/root/secret") == "of-root-alone"
    assert "of-root-alone" not in host.check_output(f"cat {paths['logs']}/*.log")
