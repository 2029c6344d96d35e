"""The arithmetic and the rules of role haproxy."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible.errors import AnsibleFilterError
from ansible_collections.grunnfjell.platform.plugins.plugin_utils.fleet.model import Host
from ansible_collections.grunnfjell.platform.plugins.plugin_utils.sizing import haproxy

ROLE = Path(__file__).resolve().parents[1] / "roles/haproxy"
AUTHORITIES = "/etc/grunnfjell/pki/authorities.pem"
DATABASE = {
    "name": "database",
    "bind": "127.0.0.1:5000",
    "exclusive": True,
    "servers": {"db1": "10.0.0.21:5432", "db2": "[fd00::22]:5432"},
    "check": {"path": "/primary", "port": 8008, "ca_file": AUTHORITIES},
}
BROKER = {
    "name": "broker",
    "bind": "[::1]:5001",
    "maxconn": 200,
    "servers": {"mq1": "10.0.0.11:5671"},
    "check": {"ca_file": AUTHORITIES},
}


def test_a_check_over_https_asks_for_its_path_and_verifies_each_server_by_name() -> None:
    tls = f"check-ssl verify required verifyhost {{}} ca-file {AUTHORITIES} crt /crt"
    assert haproxy.haproxy_listen_sections([DATABASE], "/crt")["database"] == [
        "bind 127.0.0.1:5000",
        "maxconn 1000",
        "tcp-request connection reject if { nbsrv(database) gt 1 }",
        "option httpchk",
        "http-check send meth GET uri /primary",
        "http-check expect status 200",
        f"server db1 10.0.0.21:5432 port 8008 {tls.format('db1')}",
        f"server db2 [fd00::22]:5432 port 8008 {tls.format('db2')}",
    ]


def test_a_check_asks_with_its_method() -> None:
    asked = DATABASE | {"check": DATABASE["check"] | {"method": "OPTIONS"}}
    assert "http-check send meth OPTIONS uri /primary" in haproxy.haproxy_listen_sections([asked], "/crt")["database"]


def test_a_check_without_a_path_is_a_handshake_and_no_check_is_a_connection() -> None:
    (*_, server) = haproxy.haproxy_listen_sections([BROKER], "/crt")["broker"]
    assert server == f"server mq1 10.0.0.11:5671 check-ssl verify required verifyhost mq1 ca-file {AUTHORITIES} crt /crt"
    plain = {key: value for key, value in BROKER.items() if key != "check"}
    assert haproxy.haproxy_listen_sections([plain], "/crt")["broker"][-1] == "server mq1 10.0.0.11:5671"


def test_the_process_has_the_sum_of_its_listeners() -> None:
    assert haproxy.haproxy_maxconn([DATABASE, BROKER]) == 1200
    assert haproxy.haproxy_maxconn([]) == haproxy.MAXCONN
    host = Host("web1", inputs={"haproxy_listeners": [DATABASE, BROKER], "haproxy_mworker_max_reloads": 2})
    ((what, size),) = haproxy.memory_parts(host) or []
    assert what == "HAProxy with 1200 connections"
    assert size == haproxy.HAPROXY + 2 * haproxy.OLDER + 1200 * haproxy.CONNECTION
    assert haproxy.descriptor_parts(host) == [("connections", 2400), ("checks", 3), ("its own", 102)]
    assert haproxy.memory_parts(Host("web1")) is None


def test_the_defaults_of_an_entry_are_those_of_the_argument_specs() -> None:
    specs = yaml.safe_load((ROLE / "meta/argument_specs.yml").read_text())["argument_specs"]["main"]["options"]
    entry = specs["haproxy_listeners"]["options"]
    assert entry["maxconn"]["default"] == haproxy.MAXCONN
    assert entry["check"]["options"]["status"]["default"] == haproxy.STATUS


def test_settings_of_the_operator_follow_those_of_the_role() -> None:
    own = {"mode": "tcp", "option tcplog": True}
    given = {"defaults": {"timeout queue": "5s"}, "global": {"mode": "http"}}
    assert haproxy.haproxy_settings(own, given, "defaults") == ["mode tcp", "option tcplog", "timeout queue 5s"]


@pytest.mark.parametrize(
    ("added", "sentence"),
    [
        ({"mode": "http"}, "haproxy_parameters.defaults names mode, which the role sets itself"),
        ({"option abortonclose": False}, "sets option abortonclose to false"),
        ({"timeout queue": "5s\nmode http"}, "has a line break in timeout queue"),
    ],
)
def test_a_wrong_setting_is_refused(added: dict[str, Any], sentence: str) -> None:
    with pytest.raises(AnsibleFilterError, match=sentence):
        haproxy.haproxy_settings({"mode": "tcp"}, {"defaults": added}, "defaults")


def test_valid_listeners_are_not_refused() -> None:
    assert haproxy.haproxy_problems([DATABASE, BROKER]) == []
    assert haproxy.haproxy_problems("no list") == haproxy.haproxy_problems(["no mapping"]) == []


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"name": "data base"}, "the name 'data base' may hold letters"),
        ({"bind": "5000"}, "'database' binds to '5000', which is not address:port"),
        ({"bind": "*:5000"}, "'database' binds to '*:5000', which is not address:port"),
        ({"bind": "::1:5000"}, "'database' binds to '::1:5000', which is not address:port"),
        ({"bind": "0.0.0.0:5000"}, "'database' binds to 0.0.0.0:5000, which is not loopback"),
        ({"bind": "10.0.0.31:5000"}, "which is not loopback: any host could connect to the servers through this one"),
        ({"bind": "[::1]:5001"}, "'database' and 'broker' both bind to [::1]:5001"),
        ({"name": "broker"}, "two listeners named 'broker'"),
        ({"maxconn": 0}, "'database' has maxconn 0, but needs at least 1"),
        ({"servers": {}}, "'database' has no servers"),
        ({"servers": {"db 1": "10.0.0.21:5432"}}, "has the server 'db 1', which is not a host name"),
        ({"servers": {"db1": "db1:5432"}}, "the server db1 of 'database' is 'db1:5432', which is not address:port"),
        ({"servers": {"db1": "10.0.0.21:99999"}}, "is '10.0.0.21:99999', which is not address:port"),
        ({"check": {"path": "/primary"}}, "the check of 'database' has no ca_file, so any program could answer"),
        ({"check": {"ca_file": "/a b"}}, "has the ca_file '/a b', which is not an absolute path"),
        ({"check": {"ca_file": AUTHORITIES, "path": "primary"}}, "has the path 'primary', which is not a URL's path"),
        ({"check": {"ca_file": AUTHORITIES, "path": "/a b"}}, "has the path '/a b', which is not a URL's path"),
        ({"check": {"ca_file": AUTHORITIES, "status": 200}}, "expects status 200, but has no path"),
        ({"check": {"ca_file": AUTHORITIES, "method": "OPTIONS"}}, "has a method, but no path to ask for. Add path, or drop"),
        ({"check": {"ca_file": AUTHORITIES, "path": "/", "status": 20}}, "expects status 20, which HTTP does not have"),
        ({"check": {"ca_file": AUTHORITIES, "port": 0}}, "the check of 'database' has port 0"),
    ],
)
def test_a_wrong_listener_is_refused_with_one_sentence(changes: dict[str, Any], sentence: str) -> None:
    (problem,) = haproxy.haproxy_problems([DATABASE | changes, BROKER])
    assert sentence in problem and problem.endswith(".")
