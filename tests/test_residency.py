"""What is observed on a host is read correctly and compared with what the inventory declares."""

from datetime import date

import pytest
from ansible_collections.grunnfjell.platform.plugins.module_utils.outside import resolvers, time_servers
from ansible_collections.grunnfjell.platform.plugins.modules.residency_observed import firewall, is_name, mounts, remote, routes
from ansible_collections.grunnfjell.platform.plugins.plugin_utils.fleet.model import Fleet, Host
from ansible_collections.grunnfjell.platform.plugins.plugin_utils.network.sites import (
    country_fault,
    faults,
    is_address,
    sites_of,
)
from ansible_collections.grunnfjell.platform.plugins.plugin_utils.reports.residency import ResidencyReport, target_host, within
from ansible_collections.grunnfjell.platform.plugins.plugin_utils.reports.residency_page import html, markdown, terminal
from ansible_collections.grunnfjell.platform.plugins.plugin_utils.sizing.pgbackrest import WEEKDAYS, forgotten_on
from hypothesis import given
from hypothesis import strategies as st

from lab import sites as lab_sites

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


def make_host(*sites: dict, roles: tuple[str, ...] = ("host",), **inputs: object) -> Host:
    return Host("db1", frozenset(roles), (), "10.0.0.1", inputs={**NORWAY, "topology_sites": list(sites), **inputs})


def report_of(host: Host, **observed: object) -> dict:
    return ResidencyReport(Fleet({"db1": host}, {"host": ("all",)}), {"db1": {**NOTHING, **observed}}).report()


def contradictions(host: Host, **observed: object) -> list[str]:
    return [contradiction["what"] for contradiction in report_of(host, **observed)["contradictions"]]


# --- Declared -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["192.0.2.1", "192.0.2.0/24", "2001:db8::1", "mirror.example.org", "db1"])
def test_an_address_a_network_and_a_name_are_addresses(text):
    assert is_address(text)


@pytest.mark.parametrize("text", ["192.0.2.400", "192.0.2.0/40", "", "a b", "-x.example.org", "https://example.org", None, 5])
def test_anything_else_is_not_an_address(text):
    assert not is_address(text)


@pytest.mark.parametrize(
    ("country", "reason"), [(False, "quotes"), (None, "not declared"), ("Norway", "two capital"), ("no", "two")]
)
def test_an_invalid_country_is_explained(country, reason):
    assert reason in country_fault(country)


def test_a_site_takes_missing_fields_from_its_kind():
    (site,) = sites_of(make_host(RESOLVER))
    assert (site.direction, site.ports, site.protocols, site.public) == ("out", (53,), ("udp", "tcp"), False)


def test_a_site_for_other_roles_does_not_count_for_the_host():
    assert sites_of(make_host({**RESOLVER, "roles": ["postgresql"]})) == []
    assert len(sites_of(make_host({**RESOLVER, "roles": ["postgresql"]}, roles=("host", "postgresql")))) == 1


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)
    )
)
def test_anything_in_place_of_a_site_gives_a_sentence_and_no_crash(entry):
    assert all(isinstance(fault, str) for fault in faults(entry))
    assert faults(entry), "none of this is a site"


# --- Observed -----------------------------------------------------------------------------------------------------------


def test_lines_that_send_data_elsewhere_are_found_and_comments_are_not(tmp_path, write):
    write("etc/rsyslog.d/a.conf", "# *.* @@old.test:514\n*.* @@logs.test:6514\nmail.* /var/log/mail\n")
    write("etc/systemd/journal-upload.conf", "[Upload]\nURL=https://u:p@journal.test:19532\n")
    write("etc/postgresql/17/main/conf.d/x.conf", "archive_command = 'rsync %p backup@store.test:/wal/%f'\n")
    write("etc/postfix/main.cf", "relayhost = [mail.test]:587\nmyhostname = db1\n")
    assert {(line["kind"], target_host(line["target"], line["kind"])) for line in remote(tmp_path)} == {
        ("log_sink", "logs.test"),
        ("log_sink", "journal.test"),
        ("backup", "store.test"),
        ("mail_relay", "mail.test"),
    }
    assert "u:p" not in str(remote(tmp_path))


def test_an_archive_on_the_host_itself_sends_nothing_away():
    assert target_host("cp %p /srv/archive/%f", "backup") == ""
    assert target_host("user=x host=10.0.0.9 port=5432", "backup") == "10.0.0.9"


def test_a_remote_filesystem_is_reported_mounted_or_only_in_fstab(tmp_path, write):
    write(
        "proc/mounts",
        "/dev/vda1 / ext4 rw 0 0\nproc /proc proc rw 0 0\nnas:/export /mnt nfs4 rw 0 0\n//win/share /w cifs rw 0 0\n",
    )
    write("etc/fstab", "# nas2:/x /x nfs rw 0 0\nnas3:/x /x nfs rw 0 0\n/dev/vda1 / ext4 rw 0 1\n")
    assert [mount["source"] for mount in mounts(tmp_path) if mount["network"]] == ["nas:/export", "//win/share", "nas3:/x"]
    assert [mount["at"] for mount in mounts(tmp_path) if not mount["network"]] == ["/"]


def test_a_time_service_without_servers_uses_the_defaults_of_debian(tmp_path, write):
    write("etc/systemd/timesyncd.conf", "[Time]\n#NTP=\n#FallbackNTP=0.pool.test 1.pool.test\n")
    assert time_servers(tmp_path, {"systemd-timesyncd.service"}) == ["0.pool.test", "1.pool.test"]
    write("etc/systemd/timesyncd.conf.d/kit.conf", "[Time]\nNTP=198.51.100.2\n")
    assert time_servers(tmp_path, {"systemd-timesyncd.service"}) == ["198.51.100.2"]
    assert time_servers(tmp_path, set()) == []


def test_resolvers_routes_and_policies_are_read(tmp_path, write):
    write("etc/resolv.conf", "# x\nnameserver 127.0.0.53\n")
    write("run/systemd/resolve/resolv.conf", "nameserver 198.51.100.2\n")
    assert resolvers(tmp_path) == ["127.0.0.53", "198.51.100.2"]
    header = "Iface Destination Gateway Flags RefCnt Use Metric Mask MTU Window IRTT\n"
    write("proc/net/route", header + "eth0 00000000 01004D0A 0003 0 0 0 00000000 0 0 0\n")
    assert routes(tmp_path) == [{"to": "0.0.0.0/0", "via": "10.77.0.1", "interface": "eth0"}]
    ruleset = '{"nftables": [{"chain": {"family": "inet", "table": "t", "name": "out", "hook": "output", "policy": "drop"}}]}'
    assert firewall(ruleset) == {"inet t out (output)": "drop"}
    assert firewall("") == {}


def test_a_name_is_neither_an_address_nor_a_network():
    assert [text for text in ("192.0.2.1", "192.0.2.0/24", "::1", "mirror.test") if is_name(text)] == ["mirror.test"]


# --- Observed against declared ---------------------------------------------------------------------------------------------


def listener(address: str, port: int, protocol: str = "tcp") -> dict:
    return {"address": address, "port": port, "protocol": protocol, "program": "x", "user": "root"}


def test_listeners_on_loopback_or_for_declared_clients_contradict_nothing():
    administrators = {"name": "ops", "kind": "administrators", "addresses": ["10.0.0.0/24"], "country": "NO"}
    host = make_host(administrators)
    assert contradictions(host, listening=[listener("0.0.0.0", 22), listener("127.0.0.1", 99), listener("::1", 98)]) == []
    (contradiction,) = contradictions(host, listening=[listener("::", 23)])
    assert "listens on every address, tcp port 23" in contradiction


def test_the_udp_port_of_a_client_is_not_a_service():
    assert contradictions(make_host(), listening=[listener("0.0.0.0", 40000, "udp")]) == []
    assert len(contradictions(make_host(), listening=[listener("0.0.0.0", 5355, "udp")])) == 1


def test_a_peer_must_be_declared_with_its_port():
    peer = {"address": "192.0.2.7", "port": 443, "protocol": "tcp", "direction": "out", "program": "x", "user": "root"}
    mirror = {"name": "m", "kind": "package_mirror", "addresses": ["mirror.test"], "country": "NO"}
    assert len(contradictions(make_host(mirror), peers=[peer])) == 1
    assert contradictions(make_host(mirror), peers=[peer], names={"mirror.test": ["192.0.2.7"]}) == []
    assert len(contradictions(make_host(mirror), peers=[{**peer, "port": 444}], names={"mirror.test": ["192.0.2.7"]})) == 1


def test_an_undeclared_resolver_contradicts():
    assert contradictions(make_host(RESOLVER), resolvers=["198.51.100.2", "127.0.0.53"]) == []
    assert len(contradictions(make_host(RESOLVER), resolvers=["198.51.100.3"])) == 1


def test_a_firewall_without_rules_for_outgoing_traffic_contradicts():
    assert len(contradictions(make_host(roles=("host", "firewall")))) == 1
    assert contradictions(make_host(roles=("host", "firewall")), firewall={"inet t o (output)": "drop"}) == []


def test_a_host_that_did_not_answer_is_reported():
    report = ResidencyReport(Fleet({"db1": make_host()}, {"host": ("all",)}), {"db1": None}).report()
    assert "it did not answer" in report["contradictions"][0]["what"]
    assert "No answer from db1" in terminal(report | {"inventory": "x", "observed_at": "t"})


def test_every_exception_is_in_the_report():
    mirror = {"name": "m", "kind": "package_mirror", "addresses": ["m.test"], "country": "DE", "reason": "Debian's own"}
    host = make_host(mirror, acceptance_exceptions={"steal": "a lab"}, application_waivers={"task_acks_late": "old code"})
    host.inputs["application_waived_queues"] = {"broadcast": "each worker empties its cache"}
    assert {(exception["input"], exception["reason"]) for exception in report_of(host)["exceptions"]} == {
        ("topology_sites", "Debian's own"),
        ("acceptance_exceptions", "a lab"),
        ("application_waivers", "old code"),
        ("application_waived_queues", "each worker empties its cache"),
    }


def test_an_extra_flow_is_an_exception_of_its_host():
    flow = {"to": ["db1", "192.0.2.7"], "ports": [443], "reason": "the yearly report"}
    assert report_of(make_host(topology_flows_extra=[flow]))["exceptions"] == [
        {"input": "topology_flows_extra", "what": "a flow to 192.0.2.7, tcp 443", "reason": "the yearly report", "hosts": "db1"}
    ]


def test_observed_text_is_escaped_in_the_page_and_the_text():
    observed = [{**listener("0.0.0.0", 1), "program": "<b>|x"}]
    report = report_of(make_host(RESOLVER), listening=observed) | {"inventory": "x", "observed_at": "t"}
    assert "<b>" not in html(report) and "&lt;b&gt;" in html(report)
    assert "\\<b>\\|x" in markdown(report)


@given(st.ip_addresses(v=4), st.integers(8, 32))
def test_an_address_is_within_its_network(address, prefix):
    assert within(str(address), [f"{address}/{prefix}"], {})


# --- Sites of the lab -------------------------------------------------------------------------------------------------------


def test_the_sites_of_the_lab_are_those_of_its_machine():
    sites = lab_sites.sites(["http" + "://mirror.test/debian"], ["https" + "://index.test/simple"], ["10.0.0.53"])
    assert [(site["kind"], site["addresses"]) for site in sites] == [
        ("package_mirror", ["mirror.test"]),
        ("package_mirror", ["index.test"]),
        ("resolver", ["10.0.0.53"]),
    ]
    assert all(faults(site) == [] and (site["country"] == "NO" or site["reason"]) for site in sites)


def test_a_machine_with_another_index_does_not_use_the_default_one():
    assert lab_sites.pip_urls({"index-url": "a"}, ["b", "c"]) == ["a"]
    assert lab_sites.pip_urls({"proxy": "p"}, ["b", "c"]) == ["p", "b", "c"]
    assert lab_sites.resolvers("nameserver 127.0.0.1\nnameserver 10.0.0.1\nsearch x\n") == ["10.0.0.1"]


# --- Erasure ------------------------------------------------------------------------------------------------------------

REPOSITORY = {
    "pgbackrest_database_hosts": ["db1", "db2"],
    "pgbackrest_repo_retention_full": 14,
    "pgbackrest_full_weekdays": ["Sun"],
}


def erasure_of(**inputs: object) -> dict:
    host = Host("backup1", frozenset({"pgbackrest"}), (), "10.0.0.9", inputs={**NORWAY, "topology_sites": [], **inputs})
    fleet = Fleet({"backup1": host}, {"pgbackrest": ("backups",)})
    report = ResidencyReport(fleet, {"backup1": NOTHING}, date(2026, 11, 30)).report()
    return {"inventory": "shop", "observed_at": "2026-11-30T12:00:00+00:00", **report}


def test_each_repository_has_a_date_by_which_it_has_forgotten():
    report = erasure_of(**REPOSITORY)
    assert report["erasure"] == [
        {
            "host": "backup1",
            "what": "backups of db1, db2",
            "kept": "14 days, with a full backup on Sun",
            "deleted_on": "2026-11-30",
            "forgotten_by": "2026-12-21",
        }
    ]
    assert "backup1: backups of db1, db2 have forgotten a row that is deleted today by 2026-12-21" in terminal(report)
    report |= {"inventory": "x", "observed_at": "y"} if "inventory" not in report else {}
    assert "2026-12-21" in markdown(report) and "2026-12-21" in html(report)


def test_a_database_and_a_repository_with_wrong_inputs_have_no_date():
    assert erasure_of(**REPOSITORY | {"pgbackrest_database_hosts": []})["erasure"] == []
    assert erasure_of(**REPOSITORY | {"pgbackrest_full_weekdays": ["Sunday"]})["erasure"] == []


@given(
    st.dates(date(2020, 1, 1), date(2040, 1, 1)),
    st.sets(st.sampled_from(WEEKDAYS), min_size=1),
    st.integers(min_value=1, max_value=3650),
)
def test_no_full_backup_with_the_row_is_kept_beyond_the_date(deleted, weekdays, days):
    """By the rule of pgBackRest: a full backup goes once a newer one is older than the retention."""
    forgotten = forgotten_on(deleted, list(weekdays), days)
    first_without = next(
        day
        for day in (date.fromordinal(deleted.toordinal() + number) for number in range(1, 9))
        if WEEKDAYS[day.weekday()] in weekdays
    )
    assert days < (forgotten - first_without).days and days + 1 < (forgotten - deleted).days <= days + 8
