"""The node name of a broker, and whether it has read its files."""

import hashlib
import os
from pathlib import Path

import pytest
from ansible_collections.grunnfjell.platform.plugins.module_utils import rabbitmq_cli
from ansible_collections.grunnfjell.platform.plugins.module_utils import rabbitmq_node as node

WANTED, OLD = "rabbit@broker1", "rabbit@debian"


def with_data(data_dir: Path, *names: str) -> Path:
    for name in names:
        (data_dir / "mnesia" / name / "msg_stores").mkdir(parents=True)
        (data_dir / "mnesia" / f"{name}-plugins-expand" / "x").mkdir(parents=True)
        (data_dir / "mnesia" / f"{name}-feature_flags").write_text("[].\n")
    return data_dir


@pytest.mark.parametrize(
    ("present", "written", "current", "name"),
    [
        ([], None, OLD, WANTED),
        ([], OLD, OLD, WANTED),
        ([WANTED], WANTED, WANTED, WANTED),
        # From before NODENAME was set: named after the host, which may have been renamed since.
        ([OLD], None, OLD, OLD),
        ([OLD], OLD, "rabbit@renamed", OLD),
        # Set by hand to keep the data.
        ([WANTED], None, "rabbit@renamed", WANTED),
        ([OLD, WANTED], OLD, OLD, OLD),
    ],
)
def test_the_node_is_the_one_whose_data_is_on_the_host(tmp_path, present, written, current, name):
    """Review finding 1."""
    assert node.resolve(with_data(tmp_path, *present), WANTED, written, current) == name


@pytest.mark.parametrize(
    ("present", "written", "says"),
    [
        ([OLD], None, f"Set rabbitmq_nodename: {OLD}"),
        ([OLD], WANTED, f"holds only the data of {OLD}"),
        ([OLD, WANTED], None, f"holds the data of {WANTED} and {OLD}"),
    ],
)
def test_no_empty_node_starts_next_to_data(tmp_path, present, written, says):
    """Review finding 1."""
    with pytest.raises(node.Unclear, match=says):
        node.resolve(with_data(tmp_path, *present), WANTED, written, written or "rabbit@renamed")


def test_the_running_node_is_known_by_its_process(tmp_path, monkeypatch):
    with_data(tmp_path, OLD, WANTED)
    (tmp_path / "mnesia" / f"{OLD}.pid").write_text("4711\n")
    (tmp_path / "mnesia" / f"{WANTED}.pid").write_text("47")
    monkeypatch.setattr(node, "show", lambda *asked: {"MainPID": "4711"})
    assert node.running(tmp_path) == OLD
    monkeypatch.setattr(node, "show", lambda *asked: {"MainPID": "0"})
    assert node.running(tmp_path) is None


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("NODENAME=rabbit@debian\n", OLD),
        ('# NODENAME=rabbit@other\nexport RABBITMQ_NODENAME="rabbit@debian"  # kept\n', OLD),
        ("NODENAME=hare\n", "hare@here"),
        ("ERL_EPMD_ADDRESS=127.0.0.1\n", None),
    ],
)
def test_the_name_in_the_environment_file_is_read_as_rabbitmq_reads_it(tmp_path, monkeypatch, text, name):
    monkeypatch.setattr(node.socket, "gethostname", lambda: "here.example.net")
    file = tmp_path / "rabbitmq-env.conf"
    assert node.recorded(file) is None
    file.write_text(text)
    assert node.recorded(file) == name


@pytest.mark.parametrize("name", ["rabbit", "rabbit@", "rab bit@broker1", "rabbit@bröker", "rabbit@a@b"])
def test_a_name_that_erlang_would_refuse_is_refused(tmp_path, name):
    with pytest.raises(node.Unclear, match="which is not name@host"):
        node.node_of(tmp_path, name)


def test_a_restart_is_due_for_new_content_and_not_for_a_new_time(tmp_path):
    """Review finding 31."""
    file, note = tmp_path / "rabbitmq.conf", tmp_path / "files"
    file.write_text("heartbeat = 20\n")
    assert node.reads_older_files([str(file)], note)
    note.write_text(f"{hashlib.sha256(file.read_bytes()).hexdigest()}  {file}\n")
    os.utime(file, (2**32, 2**32))
    assert not node.reads_older_files([str(file), str(tmp_path / "gone")], note)
    file.write_text("heartbeat = 30\n")
    os.utime(file, (0, 0))
    assert node.reads_older_files([str(file)], note)


@pytest.mark.parametrize(
    ("state", "reload", "due"),
    [("active", "yes", True), ("active", "no", False), ("inactive", "yes", False), (None, None, False)],
)
def test_a_restart_is_due_when_a_running_broker_has_an_outdated_unit(monkeypatch, state, reload, due):
    answers = {"ActiveState": state, "NeedDaemonReload": reload}
    monkeypatch.setattr(node, "show", lambda unit, name: {name: answers[name]} if answers[name] else {})
    assert node.restart_due([]) is due


def test_the_log_of_an_expression_is_not_its_answer(monkeypatch):
    printed = '23:02:49.043 [error] You have set a key, but there is no <<setting>> of that name.\n<<"eyJh\n"  "IjoxfQ==">>\n'
    monkeypatch.setattr(rabbitmq_cli, "call", lambda *_, **__: printed)
    assert rabbitmq_cli.ask("x") == {"a": 1}
