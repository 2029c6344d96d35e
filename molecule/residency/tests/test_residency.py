"""What the residency report promises: it shows what a host really does, and names everything undeclared."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import pytest
import testinfra
from playbook_runner import PlaybookRun, play

testinfra_hosts = ["ansible://first"]
ADDRESS = "10.77.0.207"
PORT = 8099

# Changes to the host that the inventory does not declare, and how to undo them.
CHANGE = """
systemd-run --quiet --unit=undeclared-server python3 -m http.server {port} --bind 0.0.0.0
mkdir -p /etc/rsyslog.d /etc/cron.d
echo '*.* @@192.0.2.7:514' > /etc/rsyslog.d/undeclared.conf
echo 'deb http://192.0.2.8/debian trixie main' > /etc/apt/sources.list.d/undeclared.list
echo '192.0.2.9:/export /srv/undeclared nfs4 rw 0 0' >> /etc/fstab
cp /etc/resolv.conf /root/resolv.conf
echo 'nameserver 192.0.2.53' >> /etc/resolv.conf
echo '0 3 * * * root rsync -a /var/lib/ backup@192.0.2.10:/srv/' > /etc/cron.d/undeclared
for i in $(seq 50); do (exec 3<>/dev/tcp/{address}/{port}) 2>/dev/null && break; sleep 0.1; done
systemd-run --quiet --unit=undeclared-client sh -c 'exec 3<>/dev/tcp/{address}/{port}; exec sleep 300'
"""
UNDO = """
systemctl stop undeclared-server undeclared-client
rm -f /etc/rsyslog.d/undeclared.conf /etc/apt/sources.list.d/undeclared.list /etc/cron.d/undeclared
sed -i '/undeclared/d' /etc/fstab
cat /root/resolv.conf > /etc/resolv.conf
"""


@dataclass(frozen=True)
class Residency:
    """A run of playbooks/residency.yml, and its report."""

    run: PlaybookRun
    report: dict
    directory: Path

    def against(self, host: str) -> list[str]:
        return [entry["what"] for entry in self.report["contradictions"] if entry["host"] == host]


def observe(inventory: str, directory: Path, **overrides: object) -> Residency:
    run = play(inventory, "playbooks/residency.yml", variables={"residency_directory": str(directory), **overrides})
    report = next(iter(directory.glob("residency-*.json")), None)
    return Residency(run, json.loads(report.read_text()) if report else {}, directory)


@pytest.fixture(scope="module")
def declared(inventory, tmp_path_factory) -> Residency:
    return observe(inventory, tmp_path_factory.mktemp("declared"))


@pytest.fixture(scope="module")
def undeclared(request, inventory, tmp_path_factory) -> Residency:
    host, other = (testinfra.get_host(f"ansible://residency-{release}", ansible_inventory=inventory) for release in ("13", "12"))
    request.addfinalizer(lambda: host.run("bash -c %s", UNDO))
    request.addfinalizer(lambda: other.run("systemctl stop undeclared-visitor"))
    result = host.run("bash -c %s", CHANGE.format(port=PORT, address="127.0.0.1"))
    assert result.rc == 0, result.stderr
    visit = f"exec 3<>/dev/tcp/{ADDRESS}/{PORT}; exec sleep 300"
    assert other.run("systemd-run --quiet --unit=undeclared-visitor bash -c %s", visit).rc == 0
    other.run("bash -c %s", f"for i in $(seq 50); do ss -tn | grep -q :{PORT} && break; sleep 0.1; done")
    return observe(inventory, tmp_path_factory.mktemp("undeclared"))


def test_a_fleet_that_does_what_it_declares_gets_a_clean_report(declared):
    assert declared.report["contradictions"] == [], declared.run.output
    assert declared.run.returncode == 0
    assert "Nothing observed contradicts the declaration" in declared.run.output


def test_the_report_names_the_country_and_the_data_of_every_host(declared):
    assert {host["name"]: host["country"] for host in declared.report["hosts"]} == {"residency-13": "NO", "residency-12": "NO"}
    journal = [holding for host in declared.report["hosts"] for holding in host["holds"] if holding["role"] == "host"]
    assert len(journal) == 2 and "for at most 30 days" in journal[0]["what"]


def test_the_report_shows_what_the_hosts_really_do(declared, host):
    observed = declared.report["observed"]["residency-13"]
    listening = host.check_output("ss -Hltn | awk '{print $4}'").splitlines()
    assert {int(line.rpartition(":")[2]) for line in listening} == {
        socket["port"] for socket in observed["listening"] if socket["protocol"] == "tcp"
    }
    assert any(socket["program"] == "sshd" and socket["port"] == 22 for socket in observed["listening"])
    assert any(peer["direction"] == "in" and peer["port"] == 22 for peer in observed["peers"])
    assert observed["resolvers"] == host.check_output("awk '/^nameserver/ {print $2}' /etc/resolv.conf").splitlines()
    assert {"to": "0.0.0.0/0", "via": "10.77.0.1", "interface": "eth0"} in observed["routes"]


def test_an_exception_stays_in_the_report_with_its_reason(declared):
    abroad = [entry for entry in declared.report["exceptions"] if entry["input"] == "topology_sites"]
    assert abroad and all(entry["reason"] for entry in abroad)
    assert abroad[0]["reason"] in declared.run.output


def test_the_report_is_also_a_page_and_a_text(declared):
    page = next(declared.directory.glob("residency-*.html")).read_text()
    text = next(declared.directory.glob("residency-*.md")).read_text()
    for title in ("Data at rest", "Sites outside the fleet", "Declared flows", "Observed", "Exceptions"):
        assert title in page and f"## {title}" in text


@pytest.mark.parametrize(
    "sentence",
    [
        f"listens on every address, tcp port {PORT}, but no flow to it is declared",
        f"has a connection from 10.77.0.208, tcp port {PORT}, which is not declared",
        "/etc/rsyslog.d/undeclared.conf sends to 192.0.2.7",
        "/etc/apt/sources.list.d/undeclared.list takes packages from 192.0.2.8, port 80",
        "192.0.2.9:/export (nfs4) is mounted at /srv/undeclared",
        "its resolver is 192.0.2.53, which no site of the kind resolver names",
        "/etc/cron.d/undeclared sends to 192.0.2.10",
    ],
)
def test_everything_undeclared_is_named_and_fails_the_run(undeclared, sentence):
    assert undeclared.run.returncode != 0
    assert [what for what in undeclared.against("residency-13") if sentence in what], undeclared.run.output


def test_an_undeclared_connection_is_named_at_both_ends(undeclared):
    assert [what for what in undeclared.against("residency-12") if f"is connected to {ADDRESS}, tcp port {PORT}" in what], (
        undeclared.run.output
    )


def test_the_same_sites_declared_are_no_contradiction(undeclared, inventory, tmp_path):
    sites = [
        {"name": "machine", "kind": "administrators", "addresses": ["10.77.0.1"], "country": "NO"},
        {"name": "visitor", "kind": "administrators", "addresses": ["10.77.0.208"], "ports": [PORT], "country": "NO"},
        {"name": "logs", "kind": "log_sink", "addresses": ["192.0.2.7"], "ports": [514], "country": "NO"},
        {"name": "mirrors", "kind": "package_mirror", "addresses": ["192.0.2.0/28"], "country": "NO"},
        {"name": "copies", "kind": "backup", "addresses": ["192.0.2.9", "192.0.2.10"], "ports": [22, 2049], "country": "NO"},
        {"name": "names", "kind": "resolver", "addresses": ["192.0.2.53"], "country": "NO"},
    ]
    residency = observe(inventory, tmp_path, topology_sites=sites)
    words = ("undeclared", "192.0.2.", str(PORT))
    assert not [what for what in residency.against("residency-13") if any(word in what for word in words)]


def test_a_host_abroad_is_refused_before_anything_is_observed(inventory, tmp_path):
    residency = observe(inventory, tmp_path, topology_country="SE")
    assert residency.run.returncode != 0
    assert "is in SE, but topology_countries_allowed is NO" in residency.run.output
    assert residency.report == {}


def test_a_log_is_removed_after_its_retention_and_a_live_one_stays(host, inventory):
    host.run("mkdir -p /var/log/celery && chmod 0750 /var/log/celery")
    host.run("touch -d '40 days ago' /var/log/celery/old.log-20200101 /var/log/celery/old.log.3 /var/log/celery/live.log")
    host.run("touch -d '10 days ago' /var/log/celery/young.log-20200102")
    host.check_output("systemd-tmpfiles --clean /etc/tmpfiles.d/grunnfjell-logs.conf")
    left = host.check_output("ls /var/log/celery").split()
    host.run("rm -r /var/log/celery")
    assert left == ["live.log", "young.log-20200102"]


def test_a_program_s_log_is_rotated_daily(host):
    host.run("mkdir -p /var/log/celery && chmod 0750 /var/log/celery && echo line > /var/log/celery/a.log")
    result = host.run("logrotate --force --state /root/logrotate.state /etc/logrotate.d/grunnfjell")
    left = host.check_output("ls /var/log/celery").split()
    host.run("rm -r /var/log/celery /root/logrotate.state")
    assert result.rc == 0, result.stderr
    assert [name for name in left if name.startswith("a.log-20")] and "a.log" not in left
    assert host.check_output("systemctl is-enabled logrotate.timer systemd-tmpfiles-clean.timer || true").split()[0] == "enabled"
