"""What a person sees of a run in a terminal and in a log: real runs of ansible-playbook on this machine."""

import re
import subprocess
import termios
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from terminals import Kit

HOSTS = ["broker1", "database1", "worker1", "worker2", "worker3"]
INVENTORY = "[all]\n" + "\n".join(HOSTS) + "\n[all:vars]\nansible_connection=local\n"
SENTENCES = ["This fleet cannot work:", '- worker1 has 1 GiB of "memory", and needs 2 GiB.', "", "Edit hosts.yml."]
PLAYBOOK = """
- name: Set up the brokers
  hosts: all
  gather_facts: false
  roles: [rabbitmq]
- name: Check the fleet
  hosts: all
  gather_facts: false
  tasks:
    - name: Fail where it is ignored
      ansible.builtin.fail: {msg: An ignored failure.}
      ignore_errors: true
    - name: Restart what comes back
      block:
        - name: Fail where it is rescued
          ansible.builtin.include_tasks: rescued.yml
      rescue:
        - name: Put it back
          ansible.builtin.debug: {msg: It is back.}
    - name: Let some hosts refuse
      ansible.builtin.fail:
        msg: |-
          This fleet cannot work:
          - worker1 has 1 GiB of "memory", and needs 2 GiB.

          Edit hosts.yml.
      when: inventory_hostname in ['worker1', 'worker2']
"""
ROLE = """
- name: Install the packages
  ansible.builtin.raw: until test -e {{ playbook_dir }}/gate; do sleep 0.05; done
- name: Write the configuration
  ansible.builtin.set_fact: {written: "{{ item }}"}
  loop: [one, two]
  changed_when: inventory_hostname == 'worker1'
"""
RESCUED = "- name: Fail inside\n  ansible.builtin.fail: {msg: A rescued failure.}\n"


def lay_out(home: Path, playbook: str = PLAYBOOK, inventory: str = INVENTORY) -> Kit:
    tasks = home / "roles/rabbitmq/tasks"
    tasks.mkdir(parents=True)
    for path, text in {
        "hosts": inventory, "site.yml": playbook, "rescued.yml": RESCUED, "roles/rabbitmq/tasks/main.yml": ROLE
    }.items():  # fmt: skip
        (home / path).write_text(text)
    return Kit(home)


@pytest.fixture
def kit(tmp_path: Path) -> Kit:
    return lay_out(tmp_path)


@dataclass
class Watched:
    """A run in a terminal. during: the screen while the first task ran; after: the screen at the end."""

    returncode: int
    during: str
    after: str
    raw: str
    log: str


@pytest.fixture(scope="module", params=[100, 40])
def watched(request, tmp_path_factory) -> Iterator[Watched]:
    kit = lay_out(tmp_path_factory.mktemp("watched"))
    session = kit.session(columns=request.param, ANSIBLE_LOG_PATH=str(kit.home / "log"))
    during = session.until(lambda screen: screen.count("  running") == len(HOSTS))
    kit.open_gate()
    code = session.end()
    yield Watched(code, during, session.screen.unwrapped, session.raw, (kit.home / "log").read_text())
    session.close()


@pytest.fixture(scope="module")
def piped(tmp_path_factory) -> subprocess.CompletedProcess:
    kit = lay_out(tmp_path_factory.mktemp("piped"))
    kit.open_gate()
    return kit.pipe("--forks=1")


def section(text: str, title: str) -> list[str]:
    """The lines below a banner, up to the next one."""
    body = re.split(rf"^{title} \*+\n(?:\*+\n)?", text, flags=re.MULTILINE)[1]
    return re.split(r"^[A-Z ]+ \*+$", body, flags=re.MULTILINE)[0].rstrip().splitlines()


def test_each_host_has_its_line_while_a_task_runs(watched: Watched) -> None:
    assert re.search(r"Play 1 of 2 · \d+ s · Set up the brok", watched.during)
    assert re.search(r"░+ 0 of 5 hosts · rabbitmq: Ins", watched.during)
    for host in HOSTS:
        assert re.search(rf"^  {host} +\d+ s  running$", watched.during, re.MULTILINE), watched.during


def test_the_live_area_is_gone_at_the_end(watched: Watched) -> None:
    assert "  running" not in watched.after and "░" not in watched.after and " of 5 hosts" not in watched.after
    assert "PLAY RECAP" in watched.after


def test_the_refusal_is_on_the_screen_once_and_last(watched: Watched) -> None:
    assert watched.returncode != 0
    text = re.sub(r"\s+", " ", watched.after)
    for sentence in filter(None, SENTENCES):
        assert text.count(sentence) == 1, watched.after
    assert watched.after.index("CHANGES ***") < watched.after.index("TIME ***") < watched.after.index("FAILED ***")
    lines = watched.after.splitlines()
    assert any("worker1, worker2: Let some hosts refuse" in line for line in lines[-15:]), watched.after
    assert "rescued failure" not in watched.after and "ignored failure" not in watched.after


def test_the_changes_are_listed_at_the_end(watched: Watched) -> None:
    text = " ".join(" ".join(section(watched.after, "CHANGES")).split())
    assert "broker1, database1, worker2, worker3: 1 change each rabbitmq: Install the packages" in text
    assert "worker1: 2 changes rabbitmq: Install the packages rabbitmq: Write the configuration" in text


def test_messages_of_tasks_stay_on_the_screen(watched: Watched) -> None:
    assert watched.after.count("msg: It is back.") == len(HOSTS)


def test_the_log_file_has_the_default_output(watched: Watched) -> None:
    assert "fatal: [worker1]: FAILED!" in watched.log and "TASK [rabbitmq : Install the packages]" in watched.log
    assert "running" not in watched.log and "FAILED ***" in watched.log


def test_with_strategy_free_each_host_shows_its_tasks(tmp_path: Path) -> None:
    free = """
- hosts: all
  gather_facts: false
  strategy: free
  tasks:
    - ansible.builtin.import_role: {name: rabbitmq}
      when: inventory_hostname == 'broker1'
    - ansible.builtin.meta: flush_handlers
    - name: Left out
      ansible.builtin.debug:
      tags: [never]
    - name: Finish
      ansible.builtin.raw: until test -e {{ playbook_dir }}/gate; do sleep 0.05; done
"""
    kit = lay_out(tmp_path, free)
    session = kit.session()
    screen = session.until(lambda screen: screen.count(" Finish") == 4 and "rabbitmq: Install" in screen)
    assert re.search(r"^  broker1 +░+ 0 of 3 tasks +\d+ s  rabbitmq: Install the packages$", screen, re.MULTILINE), screen
    assert re.search(r"^  worker3 +█+░+ 2 of 3 tasks +\d+ s  Finish$", screen, re.MULTILINE), screen
    kit.open_gate()
    assert session.end() == 0 and "tasks  " not in session.screen.text
    session.close()


SECRETS = """
- hosts: all
  gather_facts: false
  tasks:
    - name: Use a secret
      ansible.builtin.fail: {msg: S3cr3t}
      no_log: true
      ignore_errors: true
    - name: Use two secrets
      ansible.builtin.fail: {msg: "{{ item }}"}
      loop: [S3cr3t, S3cr3t]
      no_log: true
"""


@pytest.mark.parametrize("terminal", [True, False])
def test_a_secret_is_never_printed(tmp_path: Path, terminal: bool) -> None:
    """ansible-core 2.19 prints the message of a task with no_log as a separate error."""
    kit, log = lay_out(tmp_path, SECRETS), tmp_path / "log"
    if terminal:
        session = kit.session(ANSIBLE_LOG_PATH=str(log))
        assert session.end() != 0
        output = session.raw
        session.close()
    else:
        output = kit.pipe(ANSIBLE_LOG_PATH=str(log)).stdout
    assert "S3cr3t" not in output and "S3cr3t" not in log.read_text()
    assert "worker3: Use two secrets" in output and "its output is hidden" in output


def test_a_pipe_gets_the_default_output_and_then_the_ending(piped: subprocess.CompletedProcess, kit: Kit) -> None:
    kit.open_gate()
    default = kit.pipe("--forks=1", ANSIBLE_STDOUT_CALLBACK="ansible.builtin.default")
    origin = re.search(r"Origin: (\S+)/site.yml", piped.stdout)
    assert origin
    ours = piped.stdout.replace(origin[1], str(kit.home)).splitlines()
    theirs = default.stdout.splitlines()
    assert ours[: len(theirs)] == theirs
    assert next(line for line in ours[len(theirs) :] if line).startswith("CHANGES")
    failed = section(piped.stdout, "FAILED")
    assert failed[0].startswith("worker1, worker2: Let some hosts refuse (site.yml:")
    assert failed[1:5] == [f"  {sentence}".rstrip() for sentence in SENTENCES]
    assert [line.split("  ")[-1] for line in section(piped.stdout, "TIME")] == ["Set up the brokers", "Check the fleet", "in all"]


SMALL = "- hosts: broker1\n  gather_facts: false\n  tasks:\n    - ansible.builtin.raw: sleep 0.6\n"


@pytest.mark.parametrize(
    ("arguments", "settings", "moves"),
    [([], {}, True), (["-v"], {}, False), ([], {"CI": "true"}, False), ([], {"TERM": "dumb"}, False)],
)
def test_a_terminal_that_nobody_watches_gets_the_default_output(tmp_path: Path, arguments, settings, moves) -> None:
    session = lay_out(tmp_path, SMALL).session(*arguments, **settings)
    assert session.end() == 0
    assert ("\033[A" in session.raw) == moves
    assert ("TASK [ansible.builtin.raw]" in session.screen.text) != moves
    assert "CHANGES ***" in session.screen.text and "FAILED" not in session.screen.text
    session.close()


@pytest.mark.parametrize(("settings", "colours"), [({"NO_COLOR": "1"}, False), ({"ANSIBLE_FORCE_COLOR": "1"}, True)])
def test_colours_follow_the_environment(tmp_path: Path, settings, colours) -> None:
    session = lay_out(tmp_path, SMALL).session(**settings)
    assert session.end() == 0
    assert "\033[A" in session.raw and bool(re.search(r"\033\[[0-9;]*m", session.raw)) == colours
    session.close()


def test_an_interrupt_restores_the_terminal_and_names_what_had_failed(tmp_path: Path) -> None:
    tasks = """
- hosts: all
  gather_facts: false
  tasks:
    - name: Refuse one
      ansible.builtin.fail: {msg: worker3 is too small.}
      when: inventory_hostname == 'worker3'
    - name: Wait
      ansible.builtin.raw: sleep 300
"""
    session = lay_out(tmp_path, tasks).session()
    session.until(lambda screen: "hosts · Wait" in screen and screen.count("  running") == 4)
    session.type("\x03")
    assert session.end() == 99
    text = session.screen.text
    assert "  running" not in text and "░" not in text
    assert text.splitlines()[-1] == "  worker3 is too small." and text.count("worker3 is too small.") == 1
    assert session.settings_now() == session.settings and "\033[?" not in session.raw
    session.close()


def test_an_unreachable_host_gets_a_plain_sentence(tmp_path: Path) -> None:
    inventory = "[all]\nworker1 ansible_host=127.0.0.1 ansible_port=1 ansible_connection=ssh\nbroker1 ansible_connection=local\n"
    done = lay_out(tmp_path, SMALL.replace("broker1", "all"), inventory).pipe()
    failed = section(done.stdout, "FAILED")
    assert done.returncode != 0 and failed[0].startswith("worker1: ")
    assert re.fullmatch(
        r"  The host cannot be reached: ssh: connect to host 127.0.0.1 port 1: Connection refused\. "
        r"Check that it is up, and its ansible_host, ansible_user and SSH key\.",
        failed[1],
    ), done.stdout


def test_the_live_area_does_not_cover_a_question(tmp_path: Path) -> None:
    question = SMALL + "    - ansible.builtin.pause: {prompt: Go on?}\n    - ansible.builtin.raw: sleep 0.6\n"
    session = lay_out(tmp_path, question).session()
    # Ansible discards what was typed before it reads keys one by one.
    screen = session.until(lambda screen: "Go on?" in screen and not session.settings_now()[3] & termios.ICANON)
    drawn = session.raw.count("Play 1 of 1")
    assert "Play 1 of 1" not in screen and drawn > 0
    session.type("\r")
    assert session.end() == 0 and session.raw.count("Play 1 of 1") > drawn
    session.close()
