"""supervisord refuses a call, or dies, in the middle of a change: what ran before runs again, or the next run completes it."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from ansible_collections.grunnfjell.platform.plugins.module_utils import supervisord as kit_supervisord
from ansible_collections.grunnfjell.platform.plugins.module_utils import whole_files
from ansible_collections.grunnfjell.platform.plugins.modules import supervisor_handover, supervisor_programs
from fake_supervisord import Supervisord, supervisord
from module_calls import call


def section(name: str, script: Path, text: str) -> str:
    return f'[program:{name}]\ncommand={script}\nenvironment=VERSION="{text}"\n'


@pytest.fixture
def waits(tmp_path: Path) -> Path:
    path = tmp_path / "waits"
    path.write_text("#!/bin/sh\nexec sleep 600\n")
    path.chmod(0o755)
    return path


@pytest.fixture(autouse=True)
def quick_and_without_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "chown", lambda path, user, group: None)
    monkeypatch.setattr(whole_files, "ownership_differs", lambda wanted: False)
    monkeypatch.setattr(supervisor_programs, "LISTEN_SECONDS", 1)
    for module in (kit_supervisord, supervisor_programs, supervisor_handover):
        monkeypatch.setattr(module, "POLL_SECONDS", 0.01)


@pytest.fixture
def fake(tmp_path: Path, waits: Path) -> Iterator[Supervisord]:
    """Two programs that will change, one that will go, and one that stays."""
    text = "".join(section(name, waits, "old") for name in ("mail", "video", "gone", "same"))
    with supervisord(tmp_path, text) as running:
        yield running


@pytest.fixture
def new(waits: Path) -> str:
    return "".join(section(name, waits, "new") for name in ("mail", "video", "added")) + section("same", waits, "old")


def apply(fake: Supervisord, content: str | None) -> dict:
    arguments = {} if content is None else {"content": content}
    return call(supervisor_programs, path=str(fake.file), socket=str(fake.socket), **arguments)


# getState, getAllProcessInfo, reloadConfig, 3 × stop, getAllProcessInfo, 3 × remove, 3 × add.
CALLS = range(13)


def test_a_change_takes_the_calls_that_the_tests_below_let_fail(fake: Supervisord, new: str) -> None:
    fake.calls.clear()
    result = apply(fake, new)
    assert (result["added"], result["restarted"], result["removed"]) == (["added"], ["mail", "video"], ["gone"])
    assert fake.programs == {"mail", "video", "added", "same"}
    assert len(fake.calls) == len(CALLS), fake.calls


@pytest.mark.parametrize("number", CALLS[1:])
def test_a_call_that_supervisord_refuses_takes_the_change_back(fake: Supervisord, new: str, number: int) -> None:
    before, same = fake.file.read_text(), fake.running["same:same_0"].pid
    fake.calls.clear()
    fake.fails_at = number
    result = apply(fake, new)
    assert result["failed"] and "supervisord refuses" in result["msg"] and result["previous"] == before
    assert fake.file.read_text() == before
    assert fake.programs == {"mail", "video", "gone", "same"}, fake.calls
    assert fake.running["same:same_0"].pid == same
    assert not apply(fake, new).get("failed")
    assert fake.programs == {"mail", "video", "added", "same"}


@pytest.mark.parametrize("number", CALLS[1:])
def test_a_supervisord_that_dies_is_named_and_the_rollback_or_the_next_run_completes(
    fake: Supervisord, new: str, number: int
) -> None:
    before = fake.file.read_text()
    fake.calls.clear()
    fake.fails_at, fake.dies = number, True
    result = apply(fake, new)
    assert result["failed"] and "supervisord did not answer" in result["msg"], result
    assert "journalctl -u supervisor" in result["msg"] and result.get("previous") == before
    fake.start()  # systemd starts it again, from the files as they are
    for content, programs in ((result["previous"], {"mail", "video", "gone", "same"}), (new, {"mail", "video", "added", "same"})):
        assert not apply(fake, content).get("failed")
        assert fake.programs == programs


def test_a_supervisord_that_is_frozen_is_not_waited_for_without_end(
    fake: Supervisord, new: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kit_supervisord, "ANSWER_SECONDS", 0.2)
    fake.server.shutdown()  # its socket still takes connections
    result = apply(fake, new)
    assert result["failed"] and "supervisord does not listen" in result["msg"]


def test_a_first_program_that_is_taken_back_leaves_no_file_and_no_program(tmp_path: Path, waits: Path) -> None:
    """As role celery_worker does on a host that had none, when its workers break the guarantees."""
    with supervisord(tmp_path) as fake:
        fake.file.unlink()
        result = apply(fake, section("mail", waits, "new"))
        assert (result["previous"], result["added"]) == (None, ["mail"])
        assert fake.programs == {"mail"}
        assert apply(fake, result["previous"])["removed"] == ["mail"]
        assert not fake.file.exists() and not fake.programs


# The web servers of a producer, which are replaced one by one.


def server_script(version: str) -> str:
    return f"#!/bin/sh\nexport APPLICATION_FINGERPRINT={version}\nexec sleep 600\n"


@pytest.fixture
def producer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Supervisord]:
    monkeypatch.setattr(supervisor_handover, "runs", runs)
    monkeypatch.setattr(supervisor_handover, "trial", lambda *arguments: "")
    script = tmp_path / "producer"
    script.write_text(server_script("old"))
    script.chmod(0o755)
    with supervisord(tmp_path, f"[program:producer]\ncommand={script}\nnumprocs=2\n") as running:
        yield running


def runs(pid: int, user: str, wanted: str) -> bool:
    """As the module's own, without another account."""
    return f"APPLICATION_FINGERPRINT={wanted}".encode() in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")


def hand_over(fake: Supervisord, content: str) -> dict:
    program = {"program": "producer", "path": str(fake.file.with_name("producer")), "content": content}
    return call(supervisor_handover, programs=[program], timeout=1, socket=str(fake.socket), directory="/", user="nobody")


def previous(result: dict) -> str:
    (program,) = result["previous"]
    return program["content"]


def versions(fake: Supervisord) -> list[str]:
    """Of the processes that run, in their order."""
    processes = [fake.running[f"producer:producer_{number}"] for number in range(2)]
    return [next((v for v in ("old", "new") if process and runs(process.pid, "", v)), "") for process in processes]


def test_a_handover_replaces_one_process_after_the_other(producer: Supervisord) -> None:
    assert hand_over(producer, server_script("new"))["replaced"] == ["producer:producer_0", "producer:producer_1"]
    assert versions(producer) == ["new", "new"]


def test_a_second_process_that_does_not_come_up_is_named_and_both_are_handed_back(producer: Supervisord) -> None:
    """The first one still serves; what the module returns is what the rollback of role producer needs."""
    producer.broken = {"producer:producer_1"}
    result = hand_over(producer, server_script("new"))
    assert result["failed"] and result["msg"] == "producer:producer_1 does not come up: it is FATAL."
    assert (result["replaced"], previous(result)) == (["producer:producer_0"], server_script("old"))
    assert versions(producer) == ["new", ""]
    producer.broken = set()
    assert not hand_over(producer, previous(result)).get("failed")
    assert versions(producer) == ["old", "old"]


# getAllProcessInfo, then for each of two: stop, look, start, look.
@pytest.mark.parametrize("dies", [False, True], ids=["refuses", "dies"])
@pytest.mark.parametrize("number", range(9))
def test_a_supervisord_that_fails_in_a_handover_leaves_what_the_rollback_needs(
    producer: Supervisord, number: int, dies: bool
) -> None:
    producer.calls.clear()
    producer.fails_at, producer.dies = number, dies
    result = hand_over(producer, server_script("new"))
    assert result["failed"] and "supervisord" in result["msg"], result
    assert previous(result) == server_script("old")
    if dies:
        producer.start()
    assert not hand_over(producer, previous(result)).get("failed")
    assert versions(producer) == ["old", "old"]
