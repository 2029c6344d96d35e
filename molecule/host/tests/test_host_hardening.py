"""Who gets in, what changes by itself, what is left behind: asked of sshd, of the tools themselves, of the running host."""

from __future__ import annotations

import paramiko
import pytest
from ansible_collections.grunnfjell.platform.plugins.plugin_utils.fleet.services import services

testinfra_hosts = ["ansible://all"]

STRONG_CIPHERS = {
    "chacha20-poly1305@openssh.com",
    *(f"aes{n}-gcm@openssh.com" for n in (128, 256)),
    *(f"aes{n}-ctr" for n in (128, 192, 256)),
}


def effective(host, user="root"):
    """What sshd says that it would do for this account, its own defaults included."""
    found = {}
    for line in host.check_output(f"sshd -T -C user={user},host=x,addr=192.0.2.1").splitlines():
        key, _, value = line.partition(" ")
        found.setdefault(key, []).append(value)
    return found


def connect(host):
    """A connection of one's own, not yet logged in."""
    transport = paramiko.Transport((host.ansible.get_variables()["ansible_host"], 22))
    transport.start_client(timeout=10)
    return transport


def test_a_password_is_never_asked_for(host):
    transport = connect(host)
    try:
        with pytest.raises(paramiko.BadAuthenticationType) as refused:
            transport.auth_none("root")
        assert refused.value.allowed_types == ["publickey"]
        with pytest.raises(paramiko.BadAuthenticationType):
            transport.auth_password("root", "guess")
    finally:
        transport.close()


def test_only_the_named_accounts_come_in(host, inputs):
    assert sorted(effective(host)["allowusers"]) == sorted({"root", *inputs["host_ssh_users"]})


def test_an_account_that_is_not_named_stays_out_with_a_good_key(host):
    host.check_output(
        "id intruder 2>/dev/null || useradd --create-home intruder; install -d -o intruder -m 700 ~intruder/.ssh; "
        "install -o intruder -m 600 /root/.ssh/authorized_keys ~intruder/.ssh/authorized_keys"
    )
    key = paramiko.Ed25519Key.from_private_key_file(host.ansible.get_variables()["ansible_ssh_private_key_file"])
    try:
        for account, welcome in (("intruder", False), ("root", True)):
            transport = connect(host)
            try:
                transport.auth_publickey(account, key)
                assert welcome, f"{account} came in"
            except paramiko.AuthenticationException:
                assert not welcome, f"{account} stayed out"
            finally:
                transport.close()
    finally:
        host.check_output("userdel --force --remove intruder 2>/dev/null")


def test_no_weak_algorithm_is_offered(host):
    options = effective(host)
    offered = {key: options[key][0].split(",") for key in ("kexalgorithms", "hostkeyalgorithms", "ciphers", "macs")}
    assert [name for name in offered["kexalgorithms"] if "nistp" in name or name.startswith("diffie-hellman")] == []
    assert [name for name in offered["hostkeyalgorithms"] if "ecdsa" in name or name.startswith("ssh-rsa")] == []
    assert set(offered["ciphers"]) <= STRONG_CIPHERS
    assert offered["macs"] and all(
        name.startswith("hmac-sha2-") and name.endswith("-etm@openssh.com") for name in offered["macs"]
    )
    # Taken out of the release's own list, not a list of ours: what a new release adds is there.
    assert any(name.startswith(("mlkem", "sntrup")) for name in offered["kexalgorithms"])


def test_a_session_carries_no_other_connection_unless_declared(host, inputs):
    options = effective(host)
    assert options["allowtcpforwarding"] == ["yes" if inputs["host_ssh_tcp_forwarding"] else "no"]
    assert [options[key] for key in ("x11forwarding", "allowagentforwarding", "permittunnel")] == [["no"]] * 3
    key = paramiko.Ed25519Key.from_private_key_file(host.ansible.get_variables()["ansible_ssh_private_key_file"])
    transport = connect(host)
    try:
        transport.auth_publickey("root", key)
        try:
            transport.open_channel("direct-tcpip", ("127.0.0.1", 22), ("127.0.0.1", 1), timeout=5).close()
            carried = True
        except paramiko.ChannelException:
            carried = False
    finally:
        transport.close()
    assert carried is inputs["host_ssh_tcp_forwarding"]


def test_a_file_of_the_vendor_that_says_otherwise_does_not_win(host):
    path = "/etc/ssh/sshd_config.d/50-cloud-init.conf"
    try:
        host.check_output(f"echo 'PasswordAuthentication yes' > {path}")
        assert effective(host)["passwordauthentication"] == ["no"]
    finally:
        host.check_output(f"rm {path}")


def test_the_vendors_file_is_as_shipped(host):
    assert host.run("cmp /usr/share/openssh/sshd_config /etc/ssh/sshd_config").rc == 0


def test_security_updates_come_by_themselves_and_leave_the_kits_services_alone(host, inputs):
    """By the very program: what it would take, and what it would leave."""
    said = host.run("unattended-upgrade --dry-run --debug")
    assert said.rc == 0, said.stderr + said.stdout
    text = said.stdout + said.stderr
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


def test_needrestart_if_it_comes_restarts_no_service_of_the_kit(host):
    """Asked of Perl as needrestart asks its file; the first expression that fits a unit decides."""
    program = (
        "our %nrconf = (override_rc => {}); do q(/etc/needrestart/conf.d/grunnfjell.conf) or die $@; "
        "for my $u (@ARGV) { my $r = 1; for (keys %{$nrconf{override_rc}}) { $r = $nrconf{override_rc}{$_} if $u =~ /$_/ } "
        "print qq($u $r\\n) }"
    )
    units = [unit.replace("*", "17-main") for service in services().values() if service.packages for unit in service.units]
    said = host.check_output("perl -e %s " + " ".join([*units, "ssh.service"]), program)
    assert dict(line.split() for line in said.splitlines()) == {**dict.fromkeys(units, "0"), "ssh.service": "1"}


def test_no_process_leaves_its_memory_on_the_disk(host):
    assert (
        host.check_output("systemctl show --property=DefaultLimitCORE --property=DefaultLimitCORESoft --value").split()
        == ["0"] * 2
    )
    # A session of its own, by SSH and PAM, and a service of systemd's.
    assert host.check_output("runuser -l nobody -s /bin/sh -c 'ulimit -Hc'").strip() == "0"
    assert host.check_output("systemd-run --quiet --pipe --wait sh -c 'ulimit -Hc'").strip() == "0"


def test_the_declared_time_servers_and_no_others_are_asked(host, inputs):
    merged = host.check_output("systemd-analyze cat-config systemd/timesyncd.conf")
    settings = dict(line.split("=", 1) for line in merged.splitlines() if "=" in line and not line.startswith("#"))
    wanted = inputs["host_time_servers"]
    # While none is declared, the release's own choice is left alone; once one is, nobody else is asked when it fails.
    assert settings.get("NTP", "").split() == wanted and settings.get("FallbackNTP") == ("" if wanted else None), merged


def test_a_module_of_the_kernel_that_nobody_needs_is_not_loaded(host):
    if not host.exists("modprobe"):
        pytest.skip("the host has no modprobe, and its kernel is not its own")
    for module in ("sctp", "usb-storage"):
        assert "/bin/false" in host.check_output(f"modprobe --show-config | grep 'install {module.replace('-', '_')}\\b'")


def test_nobody_can_say_that_they_did_not_know(host, inputs):
    assert host.check_output("cat /etc/issue") == host.check_output("cat /etc/issue.net") == inputs["host_banner"].strip()
