"""Role host without a host: whom SSH would shut out, and a file that its reader refuses."""

from __future__ import annotations

import grp
import os
import pwd

import pytest
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar
from ansible_collections.grunnfjell.platform.plugins.module_utils.whole_files import Invalid, ManagedFile, write_files
from ansible_collections.grunnfjell.platform.plugins.plugin_utils.refusals import host

from lab.machine import REPOSITORY


@pytest.mark.parametrize(("user", "users"), [("root", []), ("admin", ["alice", "bob"])])
def test_accounts_that_come_by_key_are_welcome(user, users):
    assert host.ssh_problems(user, users, False) == []


@pytest.mark.parametrize(
    ("user", "users", "password", "says"),
    [
        ("root", [], True, "connects with a password"),
        # Review finding 33: with -u or User in ~/.ssh/config, nobody would be shut out.
        ("", ["alice"], False, "Set ansible_user"),
        ("", [], False, "Set ansible_user"),
        # Review finding 13: `AllowUsers name@domain` admits the name from that host alone.
        ("ansible@corp.example", [], False, "'ansible@corp.example' (ansible_user or host_ssh_users) is an account with a"),
        ("root", ["CORP\\alice"], False, "Create a local account without @ or backslash"),
        ("root", ["al*"], False, "'al*', which is not an account"),
        ("root", ["a b"], False, "'a b', which is not an account"),
    ],
)
def test_an_inventory_that_would_shut_itself_out_is_refused(user, users, password, says):
    (sentence,) = host.ssh_problems(user, users, password)
    assert says in sentence


TIME = {"name": "time", "kind": "time_server", "addresses": ["192.0.2.1", "ntp.example.org"], "country": "NO"}


@pytest.mark.parametrize(
    ("places", "roles", "asked"),
    [
        ([], [], []),
        ([TIME], ["rabbitmq"], ["192.0.2.1", "ntp.example.org"]),
        ([TIME | {"kind": "package_mirror"}], [], []),
        ([TIME | {"addresses": ["192.0.2.0/24", "192.0.2.9/32"]}], [], ["192.0.2.9"]),
        ([TIME | {"roles": ["postgresql"]}], ["rabbitmq"], []),
        ([TIME | {"roles": ["postgresql"]}], ["host", "postgresql"], ["192.0.2.1", "ntp.example.org"]),
        # What topology refuses is no reason for this to break off first, with a worse sentence.
        ([TIME | {"addresses": "192.0.2.1"}, "time", None], [], []),
        ("time", [], []),
    ],
)
def test_the_declared_time_servers_of_a_host_are_asked(places, roles, asked):
    assert host.time_servers(places, roles) == asked


def test_a_file_that_its_reader_refuses_is_not_put_in_place(tmp_path):
    me = pwd.getpwuid(os.getuid())
    path = tmp_path / "settings"

    def wanted(content):
        group = grp.getgrgid(os.getgid()).gr_name
        return ManagedFile(str(path), content, me.pw_name, group, 0o644, validate="grep -q good %s")

    assert write_files([wanted("good\n")], check_mode=False).changed == [str(path)]
    with pytest.raises(Invalid, match="was not put in place, since grep refuses it"):
        write_files([wanted("bad\n")], check_mode=False)
    assert path.read_text() == "good\n" and list(tmp_path.iterdir()) == [path]


def test_files_that_were_refused_later_are_put_back_as_they_were(tmp_path):
    me, group = pwd.getpwuid(os.getuid()).pw_name, grp.getgrgid(os.getgid()).gr_name
    changed, new, same = (tmp_path / name for name in ("changed", "new", "same"))
    changed.write_text("before\n")
    same.write_text("after\n")
    files = [ManagedFile(str(path), "after\n", me, group, 0o644) for path in (changed, new, same)]
    written = write_files(files, check_mode=False)
    written.restore(files)
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"changed": "before\n", "same": "after\n"}


def test_sshd_is_asked_for_every_account_that_may_come_and_for_one_that_may_not():
    """Review findings 24 and 34: and for the port that they come to, since a Match block may name it."""
    loader = DataLoader()
    variables = loader.load_from_file(str(REPOSITORY / "roles/host/vars/main.yml"), trusted_as_template=True)
    variables |= {"host_ssh_user": "debian", "host_ssh_users": ["alice"], "host_ssh_tcp_forwarding": False}
    variables |= {"ansible_facts": {"resources": {"controller": "192.0.2.9", "ssh_port": 2222}}}
    effective = Templar(loader, variables).template(variables["__host_ssh_effective"])
    asked = {f"sshd -T -C host=grunnfjell,addr=192.0.2.9,lport=2222,user={user}" for user in ("alice", "debian", "nobody")}
    assert set(effective["commands"]) == asked
    assert {"permitrootlogin no", "allowusers alice", "allowusers debian", "passwordauthentication no"} <= set(effective["lines"])


@pytest.mark.parametrize(
    ("installed", "packages", "client", "needed"),
    [
        ([], ["ca-certificates", "systemd-timesyncd"], "systemd-timesyncd", ["ca-certificates", "systemd-timesyncd"]),
        (["chrony"], ["ca-certificates", "systemd-timesyncd"], "chrony", ["ca-certificates"]),
        (["ntpsec"], ["ca-certificates", "systemd-timesyncd"], "ntpsec", ["ca-certificates"]),
        ([], ["ca-certificates", "chrony"], "chrony", ["ca-certificates", "chrony"]),
    ],
)
def test_a_time_client_that_the_image_brought_is_not_removed(installed, packages, client, needed):
    """Review finding 25: to install systemd-timesyncd is to remove chrony."""
    loader = DataLoader()
    variables = loader.load_from_file(str(REPOSITORY / "roles/host/vars/main.yml"), trusted_as_template=True)
    variables |= {"host_packages": packages, "ansible_facts": {"installed_packages": installed}}
    templar = Templar(loader, variables)
    assert templar.template(variables["__host_time_client"]) == client
    assert sorted(templar.template(variables["__host_packages_needed"])) == needed
