"""Servers that a host uses: read from its settings, and refused where its firewall would block them."""

import pytest
from ansible_collections.grunnfjell.platform.plugins.module_utils.outside import (
    active_units,
    apt_proxies,
    apt_sources,
    measured,
    pip_sources,
)
from ansible_collections.grunnfjell.platform.plugins.plugin_utils.fleet.model import Fleet, Host
from ansible_collections.grunnfjell.platform.plugins.plugin_utils.refusals import outside

MIRROR = "http" + "://mirror.test/debian/"
OTHER = "https" + "://u:p@other.test:8443/x/"
PROXY = "http" + "://proxy.test:3128"


def host_with(targets: str = "", dump: str = "", states: str = ""):
    answers = {"apt-get": targets, "apt-config": dump, "systemctl": states}
    return lambda *argv: answers[argv[0]]


def fields(servers: list[dict]) -> set[tuple[str, int, str, bool]]:
    return {(server["address"], server["port"], server["file"], server["direct"]) for server in servers}


def test_package_sources_are_those_that_apt_itself_reads(tmp_path, write):
    """Review finding 23: Debian's cloud images keep their servers in a list of mirrors."""
    write("etc/apt/mirrors/debian.list", f"# ours\n{MIRROR}\tpriority:1\n\n{OTHER}\n")
    targets = "mirror+file:/etc/apt/mirrors/debian.list/ /etc/apt/sources.list.d/debian.sources:1\n"
    targets += f"{OTHER} /etc/apt/sources.list.d/x.list:2\nfile:/srv/packages/ /etc/apt/sources.list:1\n"
    servers = apt_sources(tmp_path, host_with(targets))
    assert fields(servers) == {
        ("mirror.test", 80, "/etc/apt/mirrors/debian.list", True),
        ("other.test", 8443, "/etc/apt/mirrors/debian.list", True),
        ("other.test", 8443, "/etc/apt/sources.list.d/x.list", True),
    }
    assert "u:p" not in str(servers)


def test_behind_a_proxy_the_host_uses_only_the_proxy(tmp_path):
    """https takes the proxy of http unless it has one, and DIRECT is not a proxy."""
    targets = f"{MIRROR} a:1\n{OTHER} a:2\n"
    dump = f'Acquire::http::Proxy "{PROXY}";\n'
    assert fields(apt_sources(tmp_path, host_with(targets, dump))) == {
        ("mirror.test", 80, "a", False), ("other.test", 8443, "a", False), ("proxy.test", 3128, "apt's Acquire::*::Proxy", True)
    }  # fmt: skip
    dump += 'Acquire::http::Proxy::mirror.test "DIRECT";\nAcquire::https::Proxy "DIRECT";\n'
    assert {server["address"] for server in apt_sources(tmp_path, host_with(targets, dump)) if server["direct"]} == {
        "mirror.test", "other.test", "proxy.test"
    }  # fmt: skip
    assert apt_proxies("") == {}


@pytest.mark.parametrize(
    ("files", "environment", "servers"),
    [
        ({}, {}, {("", 443, True)}),
        ({"etc/pip.conf": f"[global]\nindex-url = {OTHER}\n"}, {}, {("other.test", 8443, True)}),
        # The user's file overrides the host's, and the environment every file.
        ({"etc/pip.conf": f"[global]\nindex-url = {OTHER}\n", "root/.config/pip/pip.conf": f"[install]\nindex_url = {MIRROR}\n"},
         {}, {("mirror.test", 80, True)}),
        ({"root/.pip/pip.conf": f"[global]\nindex-url = {OTHER}\n"}, {"PIP_INDEX_URL": MIRROR}, {("mirror.test", 80, True)}),
        ({"etc/xdg/pip/pip.conf": f"[global]\nextra-index-url = {OTHER} {MIRROR}\n"}, {},
         {("", 443, True), ("other.test", 8443, True), ("mirror.test", 80, True)}),
        ({"etc/pip.conf": f"[global]\nproxy = {PROXY}\n"}, {}, {("", 443, False), ("proxy.test", 3128, True)}),
        ({"etc/pip.conf": "[global]\nno-index = true\nfind-links = /srv/wheels\n"}, {}, set()),
        ({"etc/pip.conf": "no section\n"}, {}, {("", 443, True)}),
    ],
)  # fmt: skip
def test_the_package_index_is_the_one_that_pip_would_use(tmp_path, write, files, environment, servers):
    """Review finding 23: the default is in no file, and pip now reads ~/.config/pip."""
    for path, text in files.items():
        write(path, text)
    assert {(server["address"], server["port"], server["direct"]) for server in pip_sources(tmp_path, environment)} == servers


def test_only_active_units_count():
    assert active_units(["a", "b", "c"], host_with(states="inactive\nactive\nfailed\n")) == {"b"}


def test_a_host_without_any_settings_is_measured(tmp_path):
    outside_servers = measured(tmp_path, lambda *argv: "")
    assert outside_servers["resolvers"] == outside_servers["apt"] == outside_servers["time_servers"] == []


# --- Refused ------------------------------------------------------------------------------------------------------------

OBSERVED = {
    "resolvers": ["127.0.0.53", "198.51.100.2", "fe80::1%eth0"],
    "apt": [{"address": "mirror.test", "port": 80, "file": "/etc/apt/sources.list", "direct": True}],
    "pip": [{"address": "", "port": 443, "file": "pip's default", "direct": True}],
    "time_servers": ["time.test"],
    "names": {"mirror.test": ["198.51.100.3"]},
}
SITES = [
    {"name": "resolver", "kind": "resolver", "addresses": ["198.51.100.2", "fe80::/10"], "country": "NO"},
    {"name": "packages", "kind": "package_mirror", "addresses": ["198.51.100.0/24"], "country": "NO"},
    {"name": "index", "kind": "package_mirror", "addresses": ["index.test", "files.test"], "country": "NO"},
    {"name": "time", "kind": "time_server", "addresses": ["198.51.100.2"], "country": "NO"},
]


def sentences(*without: str, roles: tuple[str, ...] = ("application",), observed: dict | None = None, **inputs) -> list[str]:
    sites = [site for site in SITES if site["name"] not in without]
    host = Host("db1", frozenset({"firewall", *roles}), (), "10.0.0.1", inputs={"topology_sites": sites, **inputs})
    host.measured.update({"outside": OBSERVED | (observed or {})})
    return list(outside.undeclared_servers(Fleet({"db1": host}, {})))


@pytest.fixture(autouse=True)
def index(monkeypatch):
    monkeypatch.setattr(outside, "default_servers", lambda: ["index.test", "files.test"])


def test_a_host_whose_servers_are_declared_is_not_refused():
    assert sentences() == []


@pytest.mark.parametrize(
    ("site", "server", "line"),
    [
        ("resolver", "its resolver is 198.51.100.2",
         '{name: resolver-198-51-100-2, kind: resolver, addresses: [198.51.100.2], country: "??"}'),
        ("packages", "apt connects to mirror.test, port 80 (/etc/apt/sources.list)",
         '{name: apt-mirror-test-80, kind: package_mirror, addresses: [mirror.test], ports: [80], country: "??"}'),
        ("index", "pip connects to index.test, files.test, port 443 (pip's default)",
         '{name: pip-index-test-443, kind: package_mirror, addresses: [index.test, files.test], ports: [443], country: "??"}'),
        ("time", "its clock is set by time.test", '{name: time, kind: time_server, addresses: [time.test], country: "??"}'),
    ],
)  # fmt: skip
def test_a_server_that_no_site_declares_is_refused_with_the_line_to_add(site, server, line):
    """Review finding 19: the firewall would block it before the release is built."""
    sentence = "".join(sentences(site)[:1])
    assert server in sentence and line in sentence and "topology_sites" in sentence


def test_a_site_that_covers_all_addresses_covers_names_too():
    everywhere = {"name": "all", "kind": "package_mirror", "addresses": ["0.0.0.0/0"], "country": "NO"}
    assert sentences(topology_sites=[everywhere, *(site for site in SITES if site["name"] in ("resolver", "time"))]) == []


def test_only_a_host_that_builds_a_release_needs_an_index():
    assert sentences("index", roles=()) == []


def test_a_host_that_keeps_no_time_needs_no_time_server():
    """A container has the clock of its machine."""
    assert sentences("time", observed={"time_servers": []}, host_packages=["ca-certificates"]) == []
    (sentence,) = sentences("time", observed={"time_servers": []}, host_packages=["systemd-timesyncd"])
    assert "its clock needs a time server" in sentence


def test_another_declared_flow_counts_and_a_host_without_the_firewall_needs_none():
    """A resolver or a proxy may be a host of the fleet, or a flow of topology_flows_extra."""
    extra = [{"to": "198.51.100.2", "ports": [53], "protocol": "udp", "reason": "x"}]
    assert not [sentence for sentence in sentences("resolver", topology_flows_extra=extra) if "198.51.100.2" in sentence]
    assert sentences("resolver", "packages", "index", "time", firewall_state="absent") == []
