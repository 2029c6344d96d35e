"""What the residency report promises: what a host really does is told, and what nobody declared is named."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import pytest
from playing import play

REPOSITORY = Path(__file__).resolve().parents[3]
testinfra_hosts = ["ansible://first"]
ADDRESS = "10.77.0.207"
PORT = 8099

# What somebody did to the host without a word in the inventory; each with the way back.
DONE = """
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
UNDONE = """
systemctl stop undeclared-server undeclared-client
rm -f /etc/rsyslog.d/undeclared.conf /etc/apt/sources.list.d/undeclared.list /etc/cron.d/undeclared
sed -i '/undeclared/d' /etc/fstab
cat /root/resolv.conf > /etc/resolv.conf
"""


@dataclass(frozen=True)
class Told:
    returncode: int
    said: str
    report: dict
    directory: Path

    def against(self, host: str) -> list[str]:
        return [one["what"] for one in self.report["contradictions"] if one["host"] == host]


def look(inventory: str, directory: Path, *more: str) -> Told:
    """playbooks/residency.yml, as an operator runs it."""
    done = play(inventory, "playbooks/residency.yml", "-e", f"residency_directory={directory}", *more)
    report = next(iter(directory.glob("residency-*.json")), None)
    return Told(done.returncode, done.printed, json.loads(report.read_text()) if report else {}, directory)


@pytest.fixture(scope="module")
def inventory(request) -> str:
    return request.config.option.ansible_inventory


@pytest.fixture(scope="module")
def honest(inventory, tmp_path_factory) -> Told:
    return look(inventory, tmp_path_factory.mktemp("honest"))


@pytest.fixture(scope="module")
def spoiled(request, inventory, tmp_path_factory):
    import testinfra

    host = testinfra.get_host("ansible://residency-13", ansible_inventory=inventory)
    other = testinfra.get_host("ansible://residency-12", ansible_inventory=inventory)
    request.addfinalizer(lambda: host.run("bash -c %s", UNDONE))
    request.addfinalizer(lambda: other.run("systemctl stop undeclared-visitor"))
    done = host.run("bash -c %s", DONE.format(port=PORT, address="127.0.0.1"))
    assert done.rc == 0, done.stderr
    visit = f"exec 3<>/dev/tcp/{ADDRESS}/{PORT}; exec sleep 300"
    assert other.run("systemd-run --quiet --unit=undeclared-visitor bash -c %s", visit).rc == 0
    other.run("bash -c %s", f"for i in $(seq 50); do ss -tn | grep -q :{PORT} && break; sleep 0.1; done")
    return look(inventory, tmp_path_factory.mktemp("spoiled"))


def test_a_fleet_that_does_what_it_declares_is_told_so(honest):
    assert honest.report["contradictions"] == [], honest.said
    assert honest.returncode == 0
    assert "Nothing observed contradicts the declaration" in honest.said


def test_the_report_tells_where_every_host_stands_and_what_rests_there(honest):
    assert {host["name"]: host["country"] for host in honest.report["hosts"]} == {"residency-13": "NO", "residency-12": "NO"}
    journal = [holding for host in honest.report["hosts"] for holding in host["holds"] if holding["role"] == "host"]
    assert len(journal) == 2 and "for at most 30 days" in journal[0]["what"]


def test_the_report_tells_what_the_hosts_really_do(honest, host):
    seen = honest.report["observed"]["residency-13"]
    listening = host.check_output("ss -Hltn | awk '{print $4}'").splitlines()
    assert {int(line.rpartition(":")[2]) for line in listening} == {
        one["port"] for one in seen["listening"] if one["protocol"] == "tcp"
    }
    assert any(one["program"] == "sshd" and one["port"] == 22 for one in seen["listening"])
    assert any(one["direction"] == "in" and one["port"] == 22 for one in seen["peers"])
    assert seen["resolvers"] == host.check_output("awk '/^nameserver/ {print $2}' /etc/resolv.conf").splitlines()
    assert {"to": "0.0.0.0/0", "via": "10.77.0.1", "interface": "eth0"} in seen["routes"]


def test_an_exception_stays_in_the_report_with_its_reason(honest):
    abroad = [one for one in honest.report["exceptions"] if one["input"] == "topology_places"]
    assert abroad and all(one["reason"] for one in abroad)
    assert abroad[0]["reason"] in honest.said


def test_the_report_is_a_page_and_a_text_as_well(honest):
    page = next(honest.directory.glob("residency-*.html")).read_text()
    text = next(honest.directory.glob("residency-*.md")).read_text()
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
        "its resolver is 192.0.2.53, which no place of the kind resolver names",
        "/etc/cron.d/undeclared sends to 192.0.2.10",
    ],
)
def test_what_nobody_declared_is_named_and_fails_the_run(spoiled, sentence):
    assert spoiled.returncode != 0
    assert [what for what in spoiled.against("residency-13") if sentence in what], spoiled.said


def test_whom_a_host_speaks_to_undeclared_is_named_on_its_side_too(spoiled):
    assert [what for what in spoiled.against("residency-12") if f"is connected to {ADDRESS}, tcp port {PORT}" in what], (
        spoiled.said
    )


def test_the_same_places_declared_are_no_contradiction(spoiled, inventory, tmp_path):
    declared = [
        {"name": "machine", "kind": "administrators", "addresses": ["10.77.0.1"], "country": "NO"},
        {"name": "visitor", "kind": "administrators", "addresses": ["10.77.0.208"], "ports": [PORT], "country": "NO"},
        {"name": "logs", "kind": "log_sink", "addresses": ["192.0.2.7"], "ports": [514], "country": "NO"},
        {"name": "mirrors", "kind": "package_mirror", "addresses": ["192.0.2.0/28"], "country": "NO"},
        {"name": "copies", "kind": "backup", "addresses": ["192.0.2.9", "192.0.2.10"], "ports": [22, 2049], "country": "NO"},
        {"name": "names", "kind": "resolver", "addresses": ["192.0.2.53"], "country": "NO"},
    ]
    told = look(inventory, tmp_path, "-e", json.dumps({"topology_places": declared}))
    assert not [what for what in told.against("residency-13") if "undeclared" in what or "192.0.2." in what or str(PORT) in what]


def test_a_host_abroad_is_refused_before_anything_is_looked_at(inventory, tmp_path):
    told = look(inventory, tmp_path, "-e", '{"topology_country": "SE"}')
    assert told.returncode != 0 and "is in SE, but topology_countries_allowed is NO" in told.said
    assert told.report == {}


def test_a_log_is_gone_when_its_days_are_over_and_a_live_one_stays(host, inventory):
    host.run("mkdir -p /var/log/celery && chmod 0750 /var/log/celery")
    host.run("touch -d '40 days ago' /var/log/celery/old.log-20200101 /var/log/celery/old.log.3 /var/log/celery/live.log")
    host.run("touch -d '10 days ago' /var/log/celery/young.log-20200102")
    host.check_output("systemd-tmpfiles --clean /etc/tmpfiles.d/grunnfjell-logs.conf")
    left = host.check_output("ls /var/log/celery").split()
    host.run("rm -r /var/log/celery")
    assert left == ["live.log", "young.log-20200102"]


def test_a_program_s_log_is_turned_over_once_a_day(host):
    host.run("mkdir -p /var/log/celery && chmod 0750 /var/log/celery && echo line > /var/log/celery/a.log")
    done = host.run("logrotate --force --state /root/logrotate.state /etc/logrotate.d/grunnfjell")
    left = host.check_output("ls /var/log/celery").split()
    host.run("rm -r /var/log/celery /root/logrotate.state")
    assert done.rc == 0, done.stderr
    assert [name for name in left if name.startswith("a.log-20")] and "a.log" not in left
    assert host.check_output("systemctl is-enabled logrotate.timer systemd-tmpfiles-clean.timer || true").split()[0] == "enabled"
