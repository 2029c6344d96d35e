"""A service reads each written file, in this run or in the next. Review finding 4."""

from pathlib import Path

import pytest
from accounts import GROUP, OWNER
from ansible_collections.grunnfjell.platform.plugins.module_utils import in_force
from ansible_collections.grunnfjell.platform.plugins.module_utils.whole_files import Invalid
from ansible_collections.grunnfjell.platform.plugins.modules import managed_files


class Host:
    """A directory with a configuration, and a daemon that copies it when it is reloaded."""

    def __init__(self, home: Path) -> None:
        self.conf, self.daemon, self.broken = home / "conf", home / "daemon", home / "broken"
        self.content, self.effective, self.validate, self.running = "new", None, None, None

    @property
    def apply(self) -> str:
        return f"sh -c 'test ! -e {self.broken} && cp {self.conf} {self.daemon} && echo x >> {self.daemon}.reloads'"

    def run(self, check_mode: bool = False) -> dict:
        file = {
            "path": str(self.conf), "content": self.content, "owner": OWNER, "group": GROUP, "mode": "0644",
            "validate": self.validate, "apply": self.apply, "effective": self.effective, "running": self.running,
        }  # fmt: skip
        return managed_files.put_in_place({"files": [file], "secrets": {}, "directories": []}, check_mode)

    @property
    def reloads(self) -> int:
        log = Path(f"{self.daemon}.reloads")
        return len(log.read_text().split()) if log.exists() else 0


@pytest.fixture
def host(tmp_path, monkeypatch) -> Host:
    monkeypatch.setattr(in_force, "RECORDS", tmp_path / "lib/grunnfjell/host/in_force")
    return Host(tmp_path)


def test_a_written_file_is_read_once(host):
    assert host.run()["applied"] == [str(host.conf)]
    assert host.daemon.read_text() == "new"
    assert host.run()["changed"] is False
    assert host.reloads == 1


def test_a_reload_that_failed_is_repeated_by_the_next_run(host):
    host.run()
    host.content = "newer"
    host.broken.touch()
    with pytest.raises(in_force.NotInForce, match=r"is written, but .* failed, so it is not in force"):
        host.run()
    assert (host.conf.read_text(), host.daemon.read_text()) == ("newer", "new")
    host.broken.unlink()
    result = host.run()
    assert (result["written"], result["applied"]) == ([], [str(host.conf)])
    assert host.daemon.read_text() == "newer"


def test_final_files_on_a_host_without_a_record_are_read(host):
    """An earlier release of the kit left them when its run was interrupted."""
    host.conf.write_text("new")
    host.conf.chmod(0o644)
    host.daemon.write_text("old")
    assert host.run()["applied"] == [str(host.conf)]
    assert host.daemon.read_text() == "new"


def test_an_interrupted_run_that_was_undoing_a_manual_edit_is_completed(host):
    """The record has the content that the file gets back; only its removal shows that another content was read."""
    host.run()
    host.conf.write_text("edited by hand")
    host.daemon.write_text("edited by hand")
    host.broken.touch()
    with pytest.raises(in_force.NotInForce):
        host.run()
    host.broken.unlink()
    host.run()
    assert host.daemon.read_text() == "new"


def test_a_refused_file_does_not_keep_the_previous_content_from_being_read(host):
    host.validate = "true %s"
    host.run()
    host.content, host.validate = "refused", "false %s"
    with pytest.raises(Invalid):
        host.run()
    host.content, host.validate = "new", "true %s"
    assert host.run()["written"] == [] and host.daemon.read_text() == "new"


def test_check_mode_predicts_and_reloads_nothing(host):
    assert host.run(check_mode=True)["applied"] == [str(host.conf)]
    assert not host.conf.exists() and not host.daemon.exists() and not in_force.RECORDS.exists()
    host.run()
    assert host.run(check_mode=True)["changed"] is False


def test_one_command_runs_once_for_all_of_its_files(host, tmp_path):
    readers = [in_force.Reader(str(tmp_path / name), name, f"sh -c 'echo x >> {tmp_path}/count'", {}) for name in ("a", "b")]
    in_force.have_read(readers)
    assert (tmp_path / "count").read_text() == "x\n"
    assert all(in_force.is_read(reader) for reader in readers)


def test_a_setting_that_another_file_overrides_is_refused_by_name_and_not_reloaded(host):
    """Review finding 24: sshd_config without Include, or with a Match block."""
    host.effective = {"commands": ["echo passwordauthentication yes"], "lines": ["passwordauthentication no"], "hint": "Edit it."}
    with pytest.raises(in_force.NotInForce) as refused:
        host.run()
    assert "has `passwordauthentication no`, but" in str(refused.value)
    assert "prints `passwordauthentication yes`. Edit it. Nothing was reloaded." in str(refused.value)
    assert host.reloads == 0
    # Until it is corrected.
    with pytest.raises(in_force.NotInForce):
        host.run()
    host.effective["commands"] = ["echo passwordauthentication no"]
    assert host.run()["changed"] is True and host.reloads == 1


@pytest.fixture
def queried(host) -> Host:
    """A daemon that shows what it has read."""
    host.running = {"command": f"cat - {host.daemon}", "input": "show\n", "line": "new", "seconds": 1, "hint": "Restart it."}
    return host


def test_a_service_that_can_be_queried_needs_no_record(queried):
    assert queried.run(check_mode=True)["applied"] == [str(queried.conf)]
    queried.run()
    assert queried.run()["changed"] is False and queried.reloads == 1
    assert not list(in_force.RECORDS.iterdir())
    queried.daemon.write_text("restarted with something else")
    assert queried.run(check_mode=True)["applied"] == [str(queried.conf)]
    queried.run()
    assert queried.daemon.read_text() == "new" and queried.reloads == 2


def test_a_service_that_still_shows_the_old_content_after_a_reload_is_an_error(queried):
    queried.running["line"] = "newer"
    with pytest.raises(in_force.NotInForce, match=r"ran, but after 1 s the service has not read .*Restart it\."):
        queried.run()


def test_a_service_that_is_not_installed_has_read_nothing(queried):
    queried.running["command"] = "/nonexistent/client"
    assert queried.run(check_mode=True)["applied"] == [str(queried.conf)]
