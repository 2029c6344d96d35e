"""What role producer promises of the named web servers, producer_programs. The scenario's is molecule/producer/live_server.py."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

testinfra_hosts = ["ansible://producer"]

BUNDLE = "/etc/grunnfjell/pki/authorities.pem"
UPGRADE = Path(__file__).with_name("upgrade_client.py").read_text(encoding="utf-8")
FORGED = ("X-Forwarded-For: 192.0.2.9", "X-Real-IP: 192.0.2.9", "X-Forwarded-Host: evil.example", "Forwarded: for=192.0.2.9")


@pytest.fixture
def named(inputs) -> list[dict[str, Any]]:
    return inputs["producer_programs"]


def url(inputs, path: str) -> str:
    return f"https://{inputs['producer_bind']}{path}"


def fetch(host, inputs, path: str, *headers: str) -> str:
    options = " ".join(f"--header '{header}'" for header in headers)
    return host.check_output(f"curl --globoff --silent --cacert {BUNDLE} {options} '{url(inputs, path)}'")


def test_named_web_servers_run_as_the_main_one(host, inputs, named):
    user = inputs["application_user"]
    for server in named:
        program = f"producer-{server['name']}"
        pids = host.check_output(f"supervisorctl pid {program}:{program}_0 {program}:{program}_1").split()
        assert host.check_output(f"ps -o user= -p {','.join(pids)}").split() == [user] * 2
        assert host.check_output(f"stat -c '%F %U %G %a' /run/grunnfjell-{program}.sock") == "socket root nginx 660"
        # root of a container may not read it.
        variables = "".join(host.check_output(f"runuser -u {user} -- cat /proc/{pid}/environ") for pid in pids).split("\0")
        shares = [int(text.partition("=")[2]) for text in variables if text.startswith("WEB_CONCURRENCY=")]
        assert sum(shares) == (server.get("workers") or inputs["producer_workers"]), shares


def test_each_named_web_server_answers_its_health_check_through_nginx(host, inputs, named):
    for server in named:
        status = f"curl --globoff --silent --cacert {BUNDLE} --output /dev/null --write-out '%{{http_code}}'"
        assert host.check_output(f"{status} '{url(inputs, server['health_path'])}'") == "200"


def test_nothing_is_left_of_web_servers_that_left_the_inventory(host, named):
    names = {"producer", *(f"producer-{server['name']}" for server in named)}
    groups = {line.split(":")[0] for line in host.run("supervisorctl status").stdout.splitlines()}
    assert {name for name in groups if name.startswith("producer")} == names
    scripts = host.check_output("find /etc/supervisor/programs -name '*producer*' -printf '%f\\n'").split()
    sockets = host.check_output("find /run -maxdepth 1 -name 'grunnfjell-producer*.sock' -printf '%f\\n'").split()
    assert set(scripts) == names and set(sockets) == {f"grunnfjell-{name}.sock" for name in names}


@pytest.mark.scenario
def test_a_named_web_server_answers_at_its_path_and_nowhere_else(host, inputs, named):
    for server in named:
        assert json.loads(fetch(host, inputs, f"{server['path']}anything"))["server"] == server["name"]
        assert '"server"' not in fetch(host, inputs, server["path"].rstrip("/"))
    assert '"server"' not in fetch(host, inputs, inputs["producer_health_path"])


@pytest.mark.scenario
def test_a_named_web_server_learns_of_its_client_only_what_nginx_says(host, inputs, named):
    address = inputs["producer_bind"].rpartition(":")[0].strip("[]")
    for server in named:
        headers = json.loads(fetch(host, inputs, server["path"], "User-Agent: test", "Accept: */*", *FORGED))["headers"]
        assert headers == {
            "Host": inputs["producer_bind"],
            "Connection": "close",
            "User-Agent": "test",
            "Accept": "*/*",
            "X-Forwarded-For": address,
            "X-Forwarded-Proto": "https",
            "X-Real-IP": address,
        }


@pytest.mark.scenario
def test_a_websocket_reaches_a_named_web_server_and_no_other_upgrade_does(host, inputs, named):
    def upgrade(path: str, protocol: str) -> str:
        return host.check_output("python3 -c %s %s %s %s %s", UPGRADE, inputs["producer_bind"], path, protocol, BUNDLE)

    for server in named:
        assert upgrade(server["path"], "websocket") == "101 a frame"
        assert upgrade(server["path"], "h2c") == "200"
    assert upgrade(inputs["producer_health_path"], "websocket") == "200"


@pytest.mark.scenario
def test_an_answer_that_streams_is_not_held_back(host, inputs, named):
    for server in named:
        stream = host.run(f"curl --globoff -sN --max-time 3 --cacert {BUNDLE} '{url(inputs, server['path'] + 'stream')}'")
        assert (stream.rc, stream.stdout) == (28, "data: first\n\n"), stream  # 28: the stream goes on
