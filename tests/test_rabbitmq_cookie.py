"""A cookie is replaced at run time, or, if the broker does not answer, in its file with a restart. rabbitmqctl is a stand-in."""

import pytest
from accounts import OWNER
from ansible_collections.grunnfjell.platform.plugins.module_utils import rabbitmq_cli
from ansible_collections.grunnfjell.platform.plugins.modules import rabbitmq_cookie


@pytest.fixture
def file(tmp_path, monkeypatch):
    monkeypatch.setattr(rabbitmq_cli, "ACCOUNT", OWNER)
    path = tmp_path / ".erlang.cookie"
    path.write_text("the former cookie\n")
    return path


def test_the_broker_renames_the_file_and_no_argument_contains_the_cookie(file, monkeypatch):
    calls = []

    def call(*arguments):
        calls.append(arguments)
        (new,) = set(file.parent.iterdir()) - {file}
        assert new.read_text() == "a new cookie" and new.stat().st_mode & 0o777 == 0o400
        assert f'file:rename("{new}", "{file}")' in arguments[1]
        new.rename(file)

    monkeypatch.setattr(rabbitmq_cli, "call", call)
    assert rabbitmq_cookie.change(str(file), "a new cookie") is False
    assert file.read_text() == "a new cookie"
    assert calls and "a new cookie" not in " ".join(calls[0])


def test_a_broker_that_does_not_answer_is_restarted_with_the_new_cookie(file, monkeypatch):
    def call(*arguments):
        raise rabbitmq_cli.CliError("unable to connect")

    monkeypatch.setattr(rabbitmq_cli, "call", call)
    assert rabbitmq_cookie.change(str(file), "a new cookie") is True
    assert file.read_text() == "a new cookie" and list(file.parent.iterdir()) == [file]


def test_a_lost_answer_does_not_restart_the_broker(file, monkeypatch):
    def call(*arguments):
        (new,) = set(file.parent.iterdir()) - {file}
        new.rename(file)
        raise rabbitmq_cli.CliError("no answer within 120 s")

    monkeypatch.setattr(rabbitmq_cli, "call", call)
    assert rabbitmq_cookie.change(str(file), "a new cookie") is False
