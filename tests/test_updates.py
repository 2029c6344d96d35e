"""Updates of the services: since when they wait, who is asked, in which order hosts follow."""

import doctest
import gzip
import os
import time
from fnmatch import fnmatchcase

from ansible_collections.grunnfjell.platform.plugins.module_utils import packages, waiting
from ansible_collections.grunnfjell.platform.plugins.modules import pending_updates
from ansible_collections.grunnfjell.platform.plugins.plugin_utils.fleet import rollout, services
from ansible_collections.grunnfjell.platform.plugins.plugin_utils.fleet.rollout import NOBODY, update_order
from ansible_collections.grunnfjell.platform.plugins.plugin_utils.reports.updates import updates_attention

LOG = """\
2026-11-20 06:10:00,101 INFO Starting unattended upgrades script
2026-11-20 06:10:02,530 INFO Packages with upgradable origin but kept back:
 Debian trixie-security:
  etcd-server
2026-11-21 06:10:00,101 INFO Starting unattended upgrades script
2026-11-21 06:10:02,530 INFO Packages with upgradable origin but kept back:
 Debian trixie-security:
  etcd-server
  rabbitmq-server
2026-11-21 06:10:03,530 INFO rabbitmq-server is on the blacklist
"""


def at(text: str) -> float:
    return time.mktime(time.strptime(text, "%Y-%m-%d %H:%M:%S"))


def test_the_examples_hold():
    for module in (packages, waiting, rollout, services):
        assert doctest.testmod(module).attempted and doctest.testmod(module).failed == 0


def test_an_update_waits_since_the_first_night_that_left_it_alone():
    lines = LOG.splitlines()
    assert packages.waiting_since(lines, "etcd-server", 0) == at("2026-11-20 06:10:02")
    assert packages.waiting_since(lines, "rabbitmq-server", 0) == at("2026-11-21 06:10:02")
    assert packages.waiting_since(lines, "rabbitmq", 0) is None, "a part of a name is another package"


def test_an_update_that_was_installed_meanwhile_does_not_count():
    after = at("2026-11-20 12:00:00")
    assert packages.waiting_since(LOG.splitlines(), "etcd-server", after) == at("2026-11-21 06:10:02")


def test_logs_are_read_from_the_oldest_on_compressed_ones_too(tmp_path, monkeypatch):
    monkeypatch.setattr(packages, "LOGS", tmp_path)
    (tmp_path / "unattended-upgrades.log").write_text("second\n")
    old = tmp_path / "unattended-upgrades.log.1.gz"
    old.write_bytes(gzip.compress(b"first\n"))
    os.utime(old, (1, 1))
    assert packages.log_lines() == ["first", "second"]


def test_only_hosts_that_wait_are_updated_and_the_primary_last():
    hosts = {
        "core1": {"__update": {"pending": True}, "__patroni_member": {"report": {"leads": True}}},
        "core2": {"__update": {"pending": True}, "__patroni_member": {"report": {"leads": False}}},
        "web1": {"__update": {"pending": False}},
        "web2": {"__update": {"pending": True}},
    }
    assert update_order(list(hosts), hosts) == ["core2", "web2", "core1"]
    assert update_order(["web1"], hosts) == update_order(["web1"], {}) == NOBODY


class Systemd:
    """Answers systemctl for a host with these units: name to its load, active and enabled state."""

    def __init__(self, units):
        self.units = units

    def run_command(self, command, check_rc=False):
        if command[1] == "is-enabled":
            return 0, f"{self.units[command[2]][2]}\n", ""
        names = [name for name in self.units if fnmatchcase(name, command[-1])]
        return 0, "".join(f"{name} {self.units[name][0]} {self.units[name][1]} x A description\n" for name in names), ""


def test_services_that_run_and_those_that_a_killed_run_left_stopped_are_known():
    host = Systemd(
        {
            "patroni@17-main.service": ("loaded", "inactive", "enabled"),
            "postgresql@17-main.service": ("loaded", "inactive", "enabled-runtime"),
            "postgresql@16-old.service": ("not-found", "inactive", "enabled"),
            "etcd.service": ("loaded", "active", "enabled"),
            "rabbitmq-server.service": ("loaded", "failed", "enabled"),
            "haproxy.service": ("loaded", "activating", "disabled"),
        }
    )
    roles = ["host", "haproxy", "rabbitmq", "patroni", "postgresql", "etcd"]
    found = {pattern: pending_updates.service_units(host, pattern) for pattern in services.packaged_units(roles)}
    assert [unit for running, _ in found.values() for unit in running] == ["etcd.service", "haproxy.service"]
    stopped = {unit for _, idle in found.values() for unit in idle}
    assert stopped == {"patroni@17-main.service", "rabbitmq-server.service"}


def test_each_update_is_one_sentence_with_its_hosts_and_each_reboot_too():
    update = {"name": "rabbitmq-server", "installed": "4.0.5-8", "candidate": "4.0.5-9", "since": at("2026-11-21 06:10:02")}
    answers = {
        "core1": {"updates": [update], "reboot_since": None},
        "core2": {"updates": [update | {"since": at("2026-11-20 06:10:02")}], "reboot_since": at("2026-11-25 08:00:00")},
        "web1": {"updates": [update | {"name": "haproxy", "since": None}], "reboot_since": None},
        "web2": {"error": "no lists"},
    }
    assert list(updates_attention({"updates": answers})) == [
        "haproxy 4.0.5-9 waits to be installed on web1: make update",
        "rabbitmq-server 4.0.5-9 waits to be installed on core1, core2 since 2026-11-20: make update",
        "core2 waits for a reboot since 2026-11-25: make update",
    ]
    assert not list(updates_attention({"updates": {}}))
