"""What role host promises on every host."""

from __future__ import annotations

testinfra_hosts = ["ansible://all"]


def test_every_declared_name_resolves_to_its_address(host, inputs):
    own = host.check_output("hostname")
    for name, address in inputs["host_names"].items():
        addresses = {line.split()[0] for line in host.check_output(f"getent ahosts {name}").splitlines()}
        # Debian's installer and cloud-init name a host to itself by 127.0.1.1 as well.
        assert address in addresses and (name == own or addresses == {address})


def test_an_undeclared_name_is_removed_from_the_hosts_file(host, inputs):
    block = host.check_output("sed -n '/BEGIN managed by Grunnfjell/,/END managed by Grunnfjell/p' /etc/hosts").splitlines()[1:-1]
    assert {line.split()[1] for line in block} == set(inputs["host_names"])


def test_the_declared_packages_are_installed(host, inputs):
    # Debian allows one time client per host; a provider's chrony stays.
    others = any(host.package(package).is_installed for package in ("chrony", "ntpsec", "openntpd"))
    needed = set(inputs["host_packages"]) - ({"systemd-timesyncd"} if others else set())
    assert [package for package in sorted(needed) if not host.package(package).is_installed] == []


def test_the_journal_is_bounded_and_survives_a_reboot(host, inputs):
    merged = host.check_output("systemd-analyze cat-config systemd/journald.conf")
    settings = dict(line.split("=", 1) for line in merged.splitlines() if "=" in line and not line.startswith("#"))
    assert settings["SystemMaxUse"] == inputs["host_journal_max_use"]
    assert settings["MaxRetentionSec"] == f"{inputs['host_log_retention_days']}day"
    assert settings["Storage"] == "persistent"
    assert host.check_output("ls -A /var/log/journal") != ""


def test_the_running_journal_has_read_its_bounds(host):
    started = host.check_output("systemctl show --timestamp=unix --property=ActiveEnterTimestamp --value systemd-journald")
    assert float(started.lstrip("@")) + 1 >= float(host.check_output("stat -c %Y /etc/systemd/journald.conf.d/grunnfjell.conf"))


def test_the_declared_kernel_settings_are_in_force(host, inputs):
    for key, value in inputs["host_sysctl"].items():
        # A star means every interface: all must have the value.
        assert set(host.check_output(f"cat /proc/sys/{key.replace('.', '/')}").splitlines()) == {str(value)}, key


def test_an_undeclared_kernel_setting_is_not_set_at_boot(host, inputs):
    lines = host.check_output("grep -v '^#' /etc/sysctl.d/60-grunnfjell.conf || true").splitlines()
    assert {line.split("=")[0].strip().lstrip("-") for line in lines if line} == set(inputs["host_sysctl"])
