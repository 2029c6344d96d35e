"""Role host without a host: who may log in with SSH, and a file that its reader refuses."""

import pytest
from accounts import GROUP, OWNER
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar
from ansible_collections.grunnfjell.platform.plugins.module_utils.whole_files import Invalid, ManagedFile, write_files
from ansible_collections.grunnfjell.platform.plugins.plugin_utils.refusals import host

from lab.machine import REPOSITORY


@pytest.mark.parametrize(("user", "users"), [("root", []), ("admin", ["alice", "bob"])])
def test_accounts_with_keys_are_accepted(user, users):
    assert host.ssh_problems(user, users, False) == []


@pytest.mark.parametrize(
    ("user", "users", "password", "says"),
    [
        ("root", [], True, "connects with a password"),
        # Review finding 33: -u and User in ~/.ssh/config do not count.
        ("", ["alice"], False, "Set ansible_user"),
        ("", [], False, "Set ansible_user"),
        # Review finding 13: `AllowUsers name@domain` admits the name only from that host.
        ("ansible@corp.example", [], False, "'ansible@corp.example' (ansible_user or host_ssh_users) is an account with a"),
        ("root", ["CORP\\alice"], False, "Create a local account without @ or backslash"),
        ("root", ["al*"], False, "'al*', which is not an account"),
        ("root", ["a b"], False, "'a b', which is not an account"),
    ],
)
def test_an_inventory_that_would_lock_out_its_account_is_refused(user, users, password, says):
    (sentence,) = host.ssh_problems(user, users, password)
    assert says in sentence


TIME = {"name": "time", "kind": "time_server", "addresses": ["192.0.2.1", "ntp.example.org"], "country": "NO"}


@pytest.mark.parametrize(
    ("sites", "roles", "servers"),
    [
        ([], [], []),
        ([TIME], ["rabbitmq"], ["192.0.2.1", "ntp.example.org"]),
        ([TIME | {"kind": "package_mirror"}], [], []),
        ([TIME | {"addresses": ["192.0.2.0/24", "192.0.2.9/32"]}], [], ["192.0.2.9"]),
        ([TIME | {"roles": ["postgresql"]}], ["rabbitmq"], []),
        ([TIME | {"roles": ["postgresql"]}], ["host", "postgresql"], ["192.0.2.1", "ntp.example.org"]),
        # Topology refuses these with a better sentence.
        ([TIME | {"addresses": "192.0.2.1"}, "time", None], [], []),
        ("time", [], []),
    ],
)
def test_the_declared_time_servers_of_a_host_are_asked(sites, roles, servers):
    assert host.time_servers(sites, roles) == servers


def test_a_file_that_its_reader_refuses_is_not_put_in_place(tmp_path):
    path = tmp_path / "settings"
    good, bad = (
        ManagedFile(str(path), content, OWNER, GROUP, 0o644, validate="grep -q good %s") for content in ("good\n", "bad\n")
    )
    assert write_files([good], check_mode=False).changed == [str(path)]
    with pytest.raises(Invalid, match="was not put in place, since grep refuses it"):
        write_files([bad], check_mode=False)
    assert path.read_text() == "good\n" and list(tmp_path.iterdir()) == [path]


def test_files_that_were_refused_later_are_restored(tmp_path):
    changed, new, same = (tmp_path / name for name in ("changed", "new", "same"))
    changed.write_text("before\n")
    same.write_text("after\n")
    files = [ManagedFile(str(path), "after\n", OWNER, GROUP, 0o644) for path in (changed, new, same)]
    written = write_files(files, check_mode=False)
    written.restore(files)
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"changed": "before\n", "same": "after\n"}


def constant(name: str, **variables):
    """A constant of the role's vars/main.yml, templated with these variables."""
    loader = DataLoader()
    constants = loader.load_from_file(str(REPOSITORY / "roles/host/vars/main.yml"), trusted_as_template=True)
    return Templar(loader, constants | variables).template(constants[name])


def test_sshd_is_asked_about_every_permitted_account_and_one_other():
    """Review findings 24 and 34: with the port of the connection, which a Match block may name."""
    inputs = {"host_ssh_user": "debian", "host_ssh_users": ["alice"], "host_ssh_tcp_forwarding": False}
    facts = {"resources": {"controller": "192.0.2.9", "ssh_port": 2222}}
    effective = constant("__host_ssh_effective", ansible_facts=facts, **inputs)
    commands = {f"sshd -T -C host=grunnfjell,addr=192.0.2.9,lport=2222,user={user}" for user in ("alice", "debian", "nobody")}
    assert set(effective["commands"]) == commands
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
def test_a_time_client_of_the_image_is_not_removed(installed, packages, client, needed):
    """Review finding 25: installing systemd-timesyncd would remove chrony."""
    variables = {"host_packages": packages, "ansible_facts": {"installed_packages": installed}}
    assert constant("__host_time_client", **variables) == client
    assert sorted(constant("__host_packages_needed", **variables)) == needed
