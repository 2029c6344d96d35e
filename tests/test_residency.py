"""What is observed is read right, and what nobody declared is told apart from what somebody did."""

from pathlib import Path

import pytest
from ansible_collections.grunnfjell.platform.plugins.module_utils.outside import resolvers, time_servers
from ansible_collections.grunnfjell.platform.plugins.modules.residency_observed import (
    firewall,
    is_name,
    mounts,
    remote,
    routes,
)
from ansible_collections.grunnfjell.platform.plugins.plugin_utils.fleet.model import Fleet, Host
from ansible_collections.grunnfjell.platform.plugins.plugin_utils.network.places import (
    country_fault,
    faults,
    is_address,
    places_of,
)
from ansible_collections.grunnfjell.platform.plugins.plugin_utils.reports.residency import ResidencyReport, target_host, within
from ansible_collections.grunnfjell.platform.plugins.plugin_utils.reports.residency_page import html, markdown, terminal
from hypothesis import given
from hypothesis import strategies as st

from lab import places as lab_places

NORWAY = {"topology_countries_allowed": ["NO"], "topology_country": "NO"}
RESOLVER = {"name": "names", "kind": "resolver", "addresses": ["198.51.100.2"], "country": "NO"}
NOTHING = {
    "listening": [],
    "peers": [],
    "addresses": [],
    "routes": [],
    "resolvers": [],
    "mounts": [],
    "swap": [],
    "remote": [],
    "package_sources": [],
    "time_servers": [],
    "names": {},
    "active": [],
    "firewall": {},
}


def host(*places: dict, roles: tuple[str, ...] = ("host",), **inputs: object) -> Host:
    return Host("db1", frozenset(roles), (), "10.0.0.1", inputs={**NORWAY, "topology_places": list(places), **inputs})


def against(one: Host, **seen: object) -> list[str]:
    report = ResidencyReport(Fleet({"db1": one}, {"host": ("all",)}), {"db1": {**NOTHING, **seen}}).report()
    return [found["what"] for found in report["contradictions"]]


def write(root: Path, path: str, text: str) -> None:
    (root / path).parent.mkdir(parents=True, exist_ok=True)
    (root / path).write_text(text)


# --- Declared -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["192.0.2.1", "192.0.2.0/24", "2001:db8::1", "mirror.example.org", "db1"])
def test_an_address_a_network_and_a_name_are_addresses(text):
    assert is_address(text)


@pytest.mark.parametrize("text", ["192.0.2.400", "192.0.2.0/40", "", "a b", "-x.example.org", "https://example.org", None, 5])
def test_what_is_none_of_them_is_refused(text):
    assert not is_address(text)


@pytest.mark.parametrize(
    ("country", "said"), [(False, "quotes"), (None, "not declared"), ("Norway", "two capital"), ("no", "two")]
)
def test_a_country_that_is_none_is_told_why(country, said):
    assert said in country_fault(country)


def test_a_place_takes_from_its_kind_what_it_does_not_say():
    (place,) = places_of(host(RESOLVER))
    assert (place.direction, place.ports, place.protocols, place.public) == ("out", (53,), ("udp", "tcp"), False)


def test_a_place_for_other_roles_is_none_of_the_host_s():
    assert places_of(host({**RESOLVER, "roles": ["postgresql"]})) == []
    assert len(places_of(host({**RESOLVER, "roles": ["postgresql"]}, roles=("host", "postgresql")))) == 1


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)
    )
)
def test_whatever_stands_for_a_place_it_is_a_sentence_and_no_crash(entry):
    assert all(isinstance(fault, str) for fault in faults(entry))
    assert faults(entry), "no such thing is a place"


# --- Observed -----------------------------------------------------------------------------------------------------------


def test_lines_that_send_data_elsewhere_are_found_and_comments_are_not(tmp_path):
    write(tmp_path, "etc/rsyslog.d/a.conf", "# *.* @@old.test:514\n*.* @@logs.test:6514\nmail.* /var/log/mail\n")
    write(tmp_path, "etc/systemd/journal-upload.conf", "[Upload]\nURL=https://u:p@journal.test:19532\n")
    write(tmp_path, "etc/postgresql/17/main/conf.d/x.conf", "archive_command = 'rsync %p backup@store.test:/wal/%f'\n")
    write(tmp_path, "etc/postfix/main.cf", "relayhost = [mail.test]:587\nmyhostname = db1\n")
    found = {(one["kind"], target_host(one["target"], one["kind"])) for one in remote(tmp_path)}
    assert found == {
        ("log_sink", "logs.test"),
        ("log_sink", "journal.test"),
        ("backup", "store.test"),
        ("mail_relay", "mail.test"),
    }
    assert "u:p" not in str(remote(tmp_path))


def test_an_archive_on_the_host_itself_sends_nothing_away():
    assert target_host("cp %p /srv/archive/%f", "backup") == ""
    assert target_host("user=x host=10.0.0.9 port=5432", "backup") == "10.0.0.9"


def test_a_filesystem_of_another_machine_is_told_mounted_or_only_written_down(tmp_path):
    write(
        tmp_path,
        "proc/mounts",
        "/dev/vda1 / ext4 rw 0 0\nproc /proc proc rw 0 0\nnas:/export /mnt nfs4 rw 0 0\n//win/share /w cifs rw 0 0\n",
    )
    write(tmp_path, "etc/fstab", "# nas2:/x /x nfs rw 0 0\nnas3:/x /x nfs rw 0 0\n/dev/vda1 / ext4 rw 0 1\n")
    assert [one["source"] for one in mounts(tmp_path) if one["network"]] == ["nas:/export", "//win/share", "nas3:/x"]
    assert [one["at"] for one in mounts(tmp_path) if not one["network"]] == ["/"]


def test_a_time_service_that_names_no_server_asks_those_that_debian_built_in(tmp_path):
    write(tmp_path, "etc/systemd/timesyncd.conf", "[Time]\n#NTP=\n#FallbackNTP=0.pool.test 1.pool.test\n")
    assert time_servers(tmp_path, {"systemd-timesyncd.service"}) == ["0.pool.test", "1.pool.test"]
    write(tmp_path, "etc/systemd/timesyncd.conf.d/kit.conf", "[Time]\nNTP=198.51.100.2\n")
    assert time_servers(tmp_path, {"systemd-timesyncd.service"}) == ["198.51.100.2"]
    assert time_servers(tmp_path, set()) == []


def test_resolvers_routes_and_policies_are_read(tmp_path):
    write(tmp_path, "etc/resolv.conf", "# x\nnameserver 127.0.0.53\n")
    write(tmp_path, "run/systemd/resolve/resolv.conf", "nameserver 198.51.100.2\n")
    assert resolvers(tmp_path) == ["127.0.0.53", "198.51.100.2"]
    header = "Iface Destination Gateway Flags RefCnt Use Metric Mask MTU Window IRTT\n"
    write(tmp_path, "proc/net/route", header + "eth0 00000000 01004D0A 0003 0 0 0 00000000 0 0 0\n")
    assert routes(tmp_path) == [{"to": "0.0.0.0/0", "via": "10.77.0.1", "interface": "eth0"}]
    told = '{"nftables": [{"chain": {"family": "inet", "table": "t", "name": "out", "hook": "output", "policy": "drop"}}]}'
    assert firewall(told) == {"inet t out (output)": "drop"}
    assert firewall("") == {}


def test_a_name_is_neither_an_address_nor_a_network():
    assert [text for text in ("192.0.2.1", "192.0.2.0/24", "::1", "mirror.test") if is_name(text)] == ["mirror.test"]


# --- Held against each other ----------------------------------------------------------------------------------------------


def listener(address: str, port: int, protocol: str = "tcp") -> dict:
    return {"address": address, "port": port, "protocol": protocol, "program": "x", "user": "root"}


def test_who_listens_to_himself_or_for_whoever_is_declared_contradicts_nothing():
    administrators = {"name": "ops", "kind": "administrators", "addresses": ["10.0.0.0/24"], "country": "NO"}
    assert (
        against(host(administrators), listening=[listener("0.0.0.0", 22), listener("127.0.0.1", 99), listener("::1", 98)]) == []
    )
    (said,) = against(host(administrators), listening=[listener("::", 23)])
    assert "listens on every address, tcp port 23" in said


def test_a_client_s_own_udp_port_is_no_service():
    assert against(host(), listening=[listener("0.0.0.0", 40000, "udp")]) == []
    assert len(against(host(), listening=[listener("0.0.0.0", 5355, "udp")])) == 1


def test_whom_a_host_speaks_to_must_be_declared_with_the_port():
    peer = {"address": "192.0.2.7", "port": 443, "protocol": "tcp", "direction": "out", "program": "x", "user": "root"}
    mirror = {"name": "m", "kind": "package_mirror", "addresses": ["mirror.test"], "country": "NO"}
    assert len(against(host(mirror), peers=[peer])) == 1
    assert against(host(mirror), peers=[peer], names={"mirror.test": ["192.0.2.7"]}) == []
    assert len(against(host(mirror), peers=[{**peer, "port": 444}], names={"mirror.test": ["192.0.2.7"]})) == 1


def test_a_resolver_that_no_place_names_contradicts():
    assert against(host(RESOLVER), resolvers=["198.51.100.2", "127.0.0.53"]) == []
    assert len(against(host(RESOLVER), resolvers=["198.51.100.3"])) == 1


def test_a_declared_firewall_that_lets_everything_out_contradicts():
    assert len(against(host(roles=("host", "firewall")))) == 1
    assert against(host(roles=("host", "firewall")), firewall={"inet t o (output)": "drop"}) == []


def test_a_host_that_did_not_answer_is_told():
    report = ResidencyReport(Fleet({"db1": host()}, {"host": ("all",)}), {"db1": None}).report()
    report |= {
        "inventory": "x",
        "observed_at": "t",
    }
    assert "it did not answer" in report["contradictions"][0]["what"]
    assert "No answer from db1" in terminal(report)


def test_every_exception_is_in_the_report_whoever_made_it():
    mirror = {"name": "m", "kind": "package_mirror", "addresses": ["m.test"], "country": "DE", "reason": "Debian's own"}
    one = host(mirror, acceptance_exceptions={"steal": "a lab"}, application_waivers={"task_acks_late": "old code"})
    exceptions = ResidencyReport(Fleet({"db1": one}, {"host": ("all",)}), {"db1": NOTHING}).report()["exceptions"]
    assert {(each["input"], each["reason"]) for each in exceptions} == {
        ("topology_places", "Debian's own"),
        ("acceptance_exceptions", "a lab"),
        ("application_waivers", "old code"),
    }


def test_an_extra_way_is_an_exception_of_whoever_goes_it():
    way = {"to": ["db1", "192.0.2.7"], "ports": [443], "reason": "the yearly report"}
    fleet = Fleet({"db1": host(topology_flows_extra=[way])}, {"host": ("all",)})
    assert ResidencyReport(fleet, {"db1": NOTHING}).report()["exceptions"] == [
        {"input": "topology_flows_extra", "what": "a flow to 192.0.2.7, tcp 443", "reason": "the yearly report", "hosts": "db1"}
    ]


def test_the_page_and_the_text_hold_no_markup_of_what_was_observed():
    one = host(RESOLVER)
    seen = {**NOTHING, "listening": [{**listener("0.0.0.0", 1), "program": "<b>|x"}]}
    report = ResidencyReport(Fleet({"db1": one}, {"host": ("all",)}), {"db1": seen}).report()
    report |= {
        "inventory": "x",
        "observed_at": "t",
    }
    assert "<b>" not in html(report) and "&lt;b&gt;" in html(report)
    assert "\\<b>\\|x" in markdown(report)


@given(st.ip_addresses(v=4), st.integers(8, 32))
def test_an_address_is_within_its_own_network(address, prefix):
    assert within(str(address), [f"{address}/{prefix}"], {})


# --- The lab's own --------------------------------------------------------------------------------------------------------


def test_the_lab_s_places_are_the_machine_s_own():
    found = lab_places.places(["http" + "://mirror.test/debian"], ["https" + "://index.test/simple"], ["10.0.0.53"])
    assert [(place["kind"], place["addresses"]) for place in found] == [
        ("package_mirror", ["mirror.test"]),
        ("package_mirror", ["index.test"]),
        ("resolver", ["10.0.0.53"]),
    ]
    assert all(faults(place) == [] and (place["country"] == "NO" or place["reason"]) for place in found)


def test_a_machine_with_an_index_of_its_own_does_not_go_to_the_default_one():
    assert lab_places.pip_urls({"index-url": "a"}, "b c") == ["a"]
    assert lab_places.pip_urls({"proxy": "p"}, "b c") == ["p", "b", "c"]
    assert lab_places.resolvers("nameserver 127.0.0.1\nnameserver 10.0.0.1\nsearch x\n") == ["10.0.0.1"]
