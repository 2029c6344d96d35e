"""The lines that the callback prints, without a run."""

import pytest
from ansible_collections.grunnfjell.platform.plugins.plugin_utils.progress import ending
from ansible_collections.grunnfjell.platform.plugins.plugin_utils.progress.faults import Fault, failure, unreachable
from ansible_collections.grunnfjell.platform.plugins.plugin_utils.progress.lines import lines_of
from ansible_collections.grunnfjell.platform.plugins.plugin_utils.progress.live_area import cells, clip, wanted
from ansible_collections.grunnfjell.platform.plugins.plugin_utils.progress.record import Record, duration, short_name


@pytest.mark.parametrize(
    ("environment", "terminal", "verbosity", "live"),
    [
        ({"TERM": "xterm"}, True, 0, True),
        ({"TERM": "xterm", "CI": "false"}, True, 0, True),
        ({"TERM": "xterm", "CI": "1"}, True, 0, False),
        ({"TERM": "xterm"}, False, 0, False),
        ({"TERM": "xterm"}, True, 1, False),
        ({}, True, 0, False),
    ],
)
def test_the_live_area_is_for_a_person_at_a_terminal(environment, terminal, verbosity, live) -> None:
    assert wanted(environment, terminal, verbosity) == live


def test_a_task_is_shown_without_the_name_of_the_collection() -> None:
    assert short_name("grunnfjell.platform.rabbitmq : Install the packages") == "rabbitmq: Install the packages"
    assert short_name("rabbitmq : Install the packages") == "rabbitmq: Install the packages"
    assert short_name("Wait for : something") == "Wait for : something"
    assert short_name("Clear\033[2J the screen") == "Clear[2J the screen"


def test_lines_are_clipped_by_their_width() -> None:
    assert (clip("broker1", 7), clip("broker1", 6)) == ("broker1", "broke…")
    assert cells("岩") == 2 and cells(clip("岩岩岩岩", 6)) <= 6


def test_durations_have_units() -> None:
    assert [duration(s) for s in (0.9, 59, 60, 3599, 7260)] == ["0 s", "59 s", "1 min 0 s", "59 min 59 s", "2 h 1 min"]


def record_of(hosts: int, limit: int) -> Record:
    record = Record(["a"], limit)
    record.start_play("a", "Work", [f"host{n}" for n in range(hosts)], 0)
    record.start_task("t", "grunnfjell.platform.host : Install", 0)
    return record


def test_more_hosts_than_rows_are_counted_and_the_longest_come_first() -> None:
    record = record_of(30, limit=100)
    for n in range(30):
        record.start_host(f"host{n}", "t", "", n)
    record.end_host("host0", "ok", False, 30)
    lines = [text for text, _ in lines_of(record, 100, 10, 40)]
    assert len(lines) == 10
    assert lines[1].endswith("1 of 30 hosts · host: Install") and lines[2].split()[0] == "host1"
    assert lines[-1] == "  … and 23 hosts more, 22 of them running"
    assert "takes long" in lines[2] and "takes long" not in lines_of(record, 100, 40, 31)[-1][0]


@pytest.mark.parametrize(("limit", "running", "counted"), [(2, 2, 30), (20, 3, 3)], ids=["waiting for a fork", "left out"])
def test_the_bar_counts_hosts_that_wait_for_a_fork_and_not_those_left_out(limit: int, running: int, counted: int) -> None:
    record = record_of(30, limit)
    for n in range(running):
        record.start_host(f"host{n}", "t", "", 0)
    assert f"0 of {counted} hosts" in lines_of(record, 100, 10, 1)[1][0]


def test_a_host_that_does_not_wait_for_others_shows_its_tasks() -> None:
    record = record_of(2, limit=20)
    record.play.free, record.play.known = True, frozenset({"t", "u"})
    for host in ("host0", "host1"):
        record.start_host(host, "t", "", 0)
    record.end_host("host0", "skipped", False, 1)
    record.start_task("u", "pki : Issue", 0)
    record.start_host("host0", "u", "", 1)
    lines = [text for text, _ in lines_of(record, 100, 10, 32)]
    assert lines[1:] == [
        "  host0  ██████████░░░░░░░░░░ 1 of 2 tasks      31 s  pki: Issue, takes long",
        "  host1  ░░░░░░░░░░░░░░░░░░░░ 0 of 2 tasks      32 s  host: Install, takes long",
    ]
    record.end_host("host0", "ok", True, 33)
    assert lines_of(record, 40, 10, 34)[1] == ("  host0  2/2      32 s  done", "yellow")


def test_a_task_that_took_long_is_listed_with_its_time() -> None:
    record = record_of(1, limit=5)
    record.start_host("host0", "t", "", 0)
    record.end_host("host0", "ok", True, 95)
    record.end_play(100)
    assert [line.strip() for line in ending.times(record, 100)] == ["1 min 40 s  Work", "1 min 35 s    host: Install"]


def test_a_sentence_is_printed_once_for_all_its_hosts() -> None:
    faults = [Fault(f"w{n}", "Refuse", "a.yml:1", "No.") for n in reversed(range(12))] + [
        Fault("", "Judge", "a.yml:9", "Once.\nTwice.")
    ]
    assert ending.faults(faults) == [
        "w0, w1, w2, w3, w4, w5, w6 and 5 more: Refuse (a.yml:1)", "  No.", "", "Judge (a.yml:9)", "  Once.", "  Twice."
    ]  # fmt: skip


def test_a_sentence_is_broken_between_words_at_a_terminal() -> None:
    fault = Fault("w1", "Refuse", "roles/pki/tasks/main.yml:12", "It cannot work:\n  * one two three four\n\nEdit hosts.yml.")
    lines = ending.faults([fault], 20)
    assert lines[:2] == ["w1: Refuse", "(roles/pki/tasks/main.yml:12)"]
    assert lines[2:] == ["  It cannot work:", "    * one two three", "      four", "", "  Edit hosts.yml."]


@pytest.mark.parametrize(
    ("result", "sentence"),
    [
        ({"msg": "Task failed: Action failed: Too small."}, "Too small."),
        ({"msg": ["One.", "Two."]}, "One.\nTwo."),
        ({"msg": "non-zero return code", "rc": 1, "stderr": "no such file"}, "non-zero return code\nno such file"),
        ({"reason": "Could not find x.yml"}, "Could not find x.yml"),
        ({"censored": "hidden", "msg": "S3cr3t"}, "The task failed; its output is hidden, because it handles secrets (no_log)."),
        ({"msg": "One or more items failed", "results": [
            {"item": "a", "msg": "bad", "failed": True}, {"item": "b", "msg": "fine"},
            {"item": "S3cr3t", "msg": "S3cr3t", "failed": True, "_ansible_no_log": True},
        ]}, "a: bad\nAn item failed; its output is hidden, because it handles secrets (no_log)."),
        ({"msg": "red \033[31m text"}, "red [31m text"),
        ({}, "The task failed without a message. Run it again with -v."),
    ],
)  # fmt: skip
def test_the_failure_of_a_task_is_a_sentence(result: dict, sentence: str) -> None:
    assert failure(result) == sentence


def test_only_the_reason_is_kept_of_the_output_of_ssh() -> None:
    message = "Task failed: Failed to connect to the host via ssh: Warning: added\r\nroot@h: Permission denied (publickey)."
    assert unreachable({"msg": message}).startswith("The host cannot be reached: root@h: Permission denied (publickey). Check")
