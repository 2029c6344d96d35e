"""SSH access, automatic updates and leftovers, as sshd, the tools and the running host report them."""

from __future__ import annotations

import re
import shlex
import subprocess
from typing import Any

import pytest
from ansible_collections.grunnfjell.platform.plugins.plugin_utils.fleet.services import declared, services
from authority import REPOSITORY

testinfra_hosts = ["ansible://all"]

STRONG_CIPHERS = {
    "chacha20-poly1305@openssh.com",
    *(f"aes{n}-gcm@openssh.com" for n in (128, 256)),
    *(f"aes{n}-ctr" for n in (128, 192, 256)),
}
# Without the account's configuration and known hosts. Callers replace exit status 255, which testinfra takes for its own ssh.
CLIENT = "ssh -F none -o BatchMode=yes -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o ConnectTimeout=10"


def effective(host, user="root"):
    """sshd's effective settings for an account, defaults included."""
    settings = {}
    for line in host.check_output(f"sshd -T -C user={user},host=x,addr=192.0.2.1").splitlines():
        key, _, value = line.partition(" ")
        settings.setdefault(key, []).append(value)
    return settings


def local_sshd(host) -> str:
    """The arguments with which an ssh client on the host connects to the host's sshd."""
    listeners = [line.split()[3] for line in host.check_output("ss -ltnHp").splitlines() if '"sshd"' in line]
    address, _, port = sorted(listeners)[0].rpartition(":")
    return f"-p {port} {({'0.0.0.0': '127.0.0.1', '*': '127.0.0.1', '[::]': '::1'}).get(address, address.strip('[]'))}"


def forwards_connections(host) -> bool:
    """Whether a session forwards a TCP connection, tried with Ansible's key, port and jump host."""
    variables: dict[str, Any] = host.backend.ansible_runner.get_variables(host.backend.get_hostname())
    command = ["ssh", "-o", "BatchMode=yes", "-o", "ControlPath=none", "-p", str(variables.get("ansible_port", 22))]
    if user := variables.get("ansible_user"):
        command += ["-l", user]
    if key := variables.get("ansible_ssh_private_key_file"):
        command += ["-i", key]
    for options in ("ansible_ssh_common_args", "ansible_ssh_extra_args"):
        command += shlex.split(variables.get(options, ""))
    port = local_sshd(host).split()[1]
    command += ["-W", f"127.0.0.1:{port}", variables.get("ansible_host", host.backend.get_hostname())]
    result = subprocess.run(
        command, cwd=REPOSITORY, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, timeout=60
    )
    assert result.stdout.startswith("SSH-") or "administratively prohibited" in result.stderr, result.stderr
    return result.stdout.startswith("SSH-")


@pytest.fixture(scope="module")
def greeting(host, inputs) -> str:
    """The debug output of a client without credentials."""
    account = inputs["host_ssh_user"] or "root"
    result = host.run(
        f"{CLIENT} -vv -o PreferredAuthentications=none -l {shlex.quote(account)} {local_sshd(host)} true || exit 1"
    )
    assert result.rc == 1, result.stdout
    return result.stderr


def test_sshd_never_asks_for_a_password(greeting):
    (methods,) = re.findall(r"Authentications that can continue: (\S+)", greeting)
    assert methods == "publickey"


def test_only_the_listed_accounts_can_log_in(host, inputs):
    assert sorted(effective(host)["allowusers"]) == sorted({inputs["host_ssh_user"], *inputs["host_ssh_users"]})


@pytest.mark.disruptive
def test_an_unlisted_account_cannot_log_in_with_a_valid_key(host):
    account, key = "grunnfjell-test", "~grunnfjell-test/.ssh/key"
    assert host.run(f"id {account}").rc != 0, f"the account {account} exists already"
    try:
        host.check_output(
            f"useradd --create-home {account} && install -d -o {account} -m 700 ~{account}/.ssh && "
            f"ssh-keygen -q -t ed25519 -N '' -f {key} && "
            f"install -o {account} -m 600 {key}.pub ~{account}/.ssh/authorized_keys"
        )
        result = host.run(f"{CLIENT} -i {key} -l {account} {local_sshd(host)} true || exit 1")
        assert result.rc == 1 and "Permission denied" in result.stderr, result.stderr
        # The key is valid: this is the only reason that sshd had.
        reasons = host.check_output("journalctl --no-pager --quiet --lines=200 --output=cat _COMM=sshd + _COMM=sshd-session")
        assert f"User {account} from" in reasons and "not allowed because not listed in AllowUsers" in reasons, reasons
    finally:
        host.run(f"userdel --force --remove {account}")


def test_no_weak_algorithm_is_offered(greeting):
    """In the first message of the handshake with the running sshd."""
    proposal = greeting.split("peer server KEXINIT proposal")[1]
    offered = {
        key: re.search(rf"{key}: (\S+)", proposal)[1].split(",")
        for key in ("KEX algorithms", "host key algorithms", "ciphers stoc", "MACs stoc")
    }
    assert [name for name in offered["KEX algorithms"] if "nistp" in name or name.startswith("diffie-hellman")] == []
    assert [name for name in offered["host key algorithms"] if "ecdsa" in name or name.startswith("ssh-rsa")] == []
    assert set(offered["ciphers stoc"]) <= STRONG_CIPHERS
    assert offered["MACs stoc"] and all(
        name.startswith("hmac-sha2-") and name.endswith("-etm@openssh.com") for name in offered["MACs stoc"]
    )
    # The kit removes from the release's list and keeps what a new release adds.
    assert any(name.startswith(("mlkem", "sntrup")) for name in offered["KEX algorithms"])


def test_a_session_forwards_no_connection_unless_declared(host, inputs):
    options = effective(host)
    assert options["allowtcpforwarding"] == ["yes" if inputs["host_ssh_tcp_forwarding"] else "no"]
    assert [options[key] for key in ("x11forwarding", "allowagentforwarding", "permittunnel")] == [["no"]] * 3
    assert forwards_connections(host) is inputs["host_ssh_tcp_forwarding"]


@pytest.mark.disruptive
def test_a_conflicting_file_of_the_vendor_does_not_win(host):
    path = "/etc/ssh/sshd_config.d/50-grunnfjell-test.conf"
    assert not host.file(path).exists
    try:
        host.check_output(f"echo 'PasswordAuthentication yes' > {path}")
        assert effective(host)["passwordauthentication"] == ["no"]
    finally:
        host.check_output(f"rm {path}")


def test_the_vendor_s_file_has_nothing_of_the_kit(host):
    assert "grunnfjell" not in host.file("/etc/ssh/sshd_config").content_string.lower()


def held_back(host) -> set[str]:
    lines = host.check_output("apt-config dump Unattended-Upgrade::Package-Blacklist").splitlines()
    return {line.split('"')[1] for line in lines if line.startswith("Unattended-Upgrade::Package-Blacklist::")}


def test_the_kit_s_services_are_held_back_from_unattended_updates(host, inputs):
    """The services of every role that declares its packages, the oldest ones by name."""
    assert held_back(host) == set(declared("packages")) | set(inputs["host_updates_held"])
    assert {"rabbitmq-server", "erlang-", "postgresql", "pgbouncer", "supervisor"} <= held_back(host)


@pytest.mark.disruptive
def test_security_updates_are_automatic_and_leave_the_kit_s_services_alone(host, inputs):
    """In a dry run, which holds apt's lock and may fetch packages."""
    dry_run = host.run("unattended-upgrade --dry-run --debug")
    text = dry_run.stdout + dry_run.stderr
    assert dry_run.rc == 0, text
    (origins,) = {line for line in text.splitlines() if line.startswith("Allowed origins are:")}
    codename = {"12": "bookworm", "13": "trixie"}[host.system_info.release.split(".")[0]]
    assert origins.split(": ", 1)[1] == f"origin=Debian,codename={codename}-security,label=Debian-Security"
    (held,) = {line for line in text.splitlines() if line.startswith("Initial blacklist:")}
    assert {"rabbitmq-server", "erlang-", "postgresql", "pgbouncer", "supervisor"} <= set(held.split(": ", 1)[1].split())
    assert set(inputs["host_updates_held"]) <= set(held.split(": ", 1)[1].split())


def test_the_timer_of_the_updates_runs_and_reboots_nothing(host):
    assert host.check_output("systemctl is-enabled apt-daily.timer apt-daily-upgrade.timer").split() == ["enabled"] * 2
    settings = dict(line.rstrip(";").split(" ", 1) for line in host.check_output("apt-config dump").splitlines() if " " in line)
    assert settings["APT::Periodic::Unattended-Upgrade"] == '"1"'
    assert settings["Unattended-Upgrade::Automatic-Reboot"] == '"false"'


def test_needrestart_restarts_no_service_of_the_kit(host):
    """Perl evaluates the file as needrestart does: the first expression that matches a unit decides."""
    program = (
        "our %nrconf = (override_rc => {}); do q(/etc/needrestart/conf.d/grunnfjell.conf) or die $@; "
        "for my $u (@ARGV) { my $r = 1; for (keys %{$nrconf{override_rc}}) { $r = $nrconf{override_rc}{$_} if $u =~ /$_/ } "
        "print qq($u $r\\n) }"
    )
    units = [unit.replace("*", "17-main") for service in services().values() if service.packages for unit in service.units]
    answers = host.check_output("perl -e %s " + " ".join([*units, "ssh.service"]), program)
    assert dict(line.split() for line in answers.splitlines()) == {**dict.fromkeys(units, "0"), "ssh.service": "1"}


def test_no_process_writes_a_core_dump(host):
    assert (
        host.check_output("systemctl show --property=DefaultLimitCORE --property=DefaultLimitCORESoft --value").split()
        == ["0"] * 2
    )
    # A new session, with PAM's limits.
    assert host.check_output("runuser -l nobody -s /bin/sh -c 'ulimit -Hc'").strip() == "0"


@pytest.mark.disruptive
def test_a_new_service_writes_no_core_dump(host):
    assert host.check_output("systemd-run --quiet --pipe --wait sh -c 'ulimit -Hc'").strip() == "0"


def test_only_the_declared_time_servers_are_used(host, inputs):
    if host.package("chrony").is_installed:
        sources = host.file("/etc/chrony/sources.d/60-grunnfjell.sources").content_string
        assert re.findall(r"^server (\S+) iburst$", sources, re.MULTILINE) == inputs["host_time_servers"]
        return
    merged = host.check_output("systemd-analyze cat-config systemd/timesyncd.conf")
    settings = dict(line.split("=", 1) for line in merged.splitlines() if "=" in line and not line.startswith("#"))
    servers = inputs["host_time_servers"]
    # Without declared servers the release's choice stays; with them there is no fallback.
    assert settings.get("NTP", "").split() == servers and settings.get("FallbackNTP") == ("" if servers else None), merged


def test_unneeded_kernel_modules_are_not_loaded(host):
    for module in ("sctp", "usb-storage"):
        assert "/bin/false" in host.check_output(f"modprobe --show-config | grep 'install {module.replace('-', '_')}\\b'")


def test_the_login_banner_is_the_declared_one(host, inputs):
    assert host.check_output("cat /etc/issue") == host.check_output("cat /etc/issue.net") == inputs["host_banner"].strip()
