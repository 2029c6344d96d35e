"""A cookie is exchanged in one step, or, where the broker does not take it, by file and restart. The tool is a stand-in here."""

import os
import pwd

import pytest
from ansible_collections.grunnfjell.platform.plugins.module_utils import rabbitmq_cli
from ansible_collections.grunnfjell.platform.plugins.modules import rabbitmq_cookie


@pytest.fixture
def file(tmp_path, monkeypatch):
    monkeypatch.setattr(rabbitmq_cli, "ACCOUNT", pwd.getpwuid(os.getuid()).pw_name)
    path = tmp_path / ".erlang.cookie"
    path.write_text("the former cookie\n")
    return path


def test_the_broker_renames_the_file_itself_and_no_argument_holds_the_cookie(file, monkeypatch):
    asked = []

    def call(*arguments):
        asked.append(arguments)
        (new,) = set(file.parent.iterdir()) - {file}
        assert new.read_text() == "a new cookie" and new.stat().st_mode & 0o777 == 0o400
        assert f'file:rename("{new}", "{file}")' in arguments[1]
        new.rename(file)

    monkeypatch.setattr(rabbitmq_cli, "call", call)
    assert rabbitmq_cookie.change(str(file), "a new cookie") is False
    assert file.read_text() == "a new cookie"
    assert asked and "a new cookie" not in " ".join(asked[0])


def test_a_broker_that_does_not_answer_is_restarted_with_it(file, monkeypatch):
    def call(*arguments):
        raise rabbitmq_cli.CliError("unable to connect")

    monkeypatch.setattr(rabbitmq_cli, "call", call)
    assert rabbitmq_cookie.change(str(file), "a new cookie") is True
    assert file.read_text() == "a new cookie" and list(file.parent.iterdir()) == [file]


def test_a_lost_answer_is_no_reason_to_restart(file, monkeypatch):
    def call(*arguments):
        (new,) = set(file.parent.iterdir()) - {file}
        new.rename(file)
        raise rabbitmq_cli.CliError("no answer within 120 s")

    monkeypatch.setattr(rabbitmq_cli, "call", call)
    assert rabbitmq_cookie.change(str(file), "a new cookie") is False
