"""Role firewall without a host: rules from flows, addresses of names, the fingerprint of a listing."""

import ipaddress
import json
import shutil
import subprocess
import threading
from itertools import permutations
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.grunnfjell.platform.plugins.module_utils import firewall_program as program
from ansible_collections.grunnfjell.platform.plugins.plugin_utils.network import ruleset as rules
from fleets import end, flow
from hypothesis import given
from hypothesis import strategies as st
from jinja2 import Environment, FileSystemLoader, StrictUndefined

ROOT = Path(__file__).parents[1]


ME = end("web1", "10.0.0.4")


def table_of(*flows: dict[str, Any], host: str = "web1") -> dict[str, Any]:
    return rules.firewall_table(list(flows), host)


def opened(table: dict[str, Any], chain: str) -> list[str]:
    return [rule["match"] for rule in table[chain] if rule["comment"] != "ping"]


def test_each_direction_has_its_own_rules() -> None:
    table = table_of(flow(ME, end("broker1", "10.0.0.1"), 5671), flow(end("worker1", "10.0.0.3"), ME, 8000))
    assert opened(table, "output") == ["ip daddr { 10.0.0.1 } tcp dport { 5671 }"]
    assert opened(table, "input") == ["ip saddr { 10.0.0.3 } tcp dport { 8000 }"]


def test_a_flow_of_one_user_is_closed_to_other_users() -> None:
    only_flow = flow(ME, end("db1", "10.0.0.2"), 5432, "postgresql", user="root")
    assert opened(table_of(only_flow), "output") == ["ip daddr { 10.0.0.2 } tcp dport { 5432 } meta skuid root"]
    there = table_of(flow(end("web1", "10.0.0.4"), end("db1", "10.0.0.2"), 5432, user="root"), host="db1")
    assert opened(there, "input") == ["ip saddr { 10.0.0.4 } tcp dport { 5432 }"]


def test_a_site_with_the_name_of_the_host_is_not_the_host() -> None:
    only_flow = flow(end("web1", "192.0.2.1", kind="site"), end("db1", "10.0.0.2"), 1)
    assert table_of(only_flow)["output"] == [] != table_of(only_flow, host="db1")["input"]


def test_ports_of_the_same_peers_share_one_rule() -> None:
    mirror = end("debian", "192.0.2.1", kind="site")
    table = table_of(*(flow(ME, mirror, port, "package_mirror") for port in (80, 443)))
    assert opened(table, "output") == ["ip daddr { 192.0.2.1 } tcp dport { 80, 443 }"]


def test_each_address_family_has_a_rule() -> None:
    site = end("operations", "198.51.100.0/24", "2001:db8::/32", kind="site")
    assert opened(table_of(flow(site, ME, 22, "ssh")), "input") == [
        "ip saddr { 198.51.100.0/24 } tcp dport { 22 }",
        "ip6 saddr { 2001:db8::/32 } tcp dport { 22 }",
    ]


def test_all_addresses_are_written_as_their_family() -> None:
    site = end("world", "0.0.0.0/0", kind="site")
    assert opened(table_of(flow(site, ME, 443, "http")), "input") == ["meta nfproto ipv4 tcp dport { 443 }"]


def test_a_name_becomes_two_sets() -> None:
    table = table_of(flow(ME, end("mail", "mail.example.net", kind="site"), 25, "mail_relay"))
    assert table["names"] == {"mail_relay_tcp_0": ["mail.example.net"]}
    assert opened(table, "output") == [
        "ip daddr @mail_relay_tcp_0_4 tcp dport { 25 }",
        "ip6 daddr @mail_relay_tcp_0_6 tcp dport { 25 }",
    ]


def test_a_ping_opens_no_port() -> None:
    table = table_of(flow(ME, end("exchange", "192.0.2.1", kind="site"), None, "exchange_point", "icmp"))
    assert [rule["match"] for rule in table["output"]] == ["ip daddr { 192.0.2.1 } icmp type echo-request"]


def test_servers_get_a_reset_for_connections_that_the_host_lost() -> None:
    table = table_of(flow(ME, end("broker1", "10.0.0.1"), 5671), flow(end("worker1", "10.0.0.3"), ME, 8000))
    assert table["strays"] == ["ip saddr { 10.0.0.1 } tcp sport { 5671 }"]


def test_administrators_have_rules_that_depend_on_no_other_flow() -> None:
    site = end("operations", "198.51.100.0/24", kind="site")
    table = table_of(flow(site, ME, 22, "ssh"), flow(end("worker1", "10.0.0.3"), ME, 8000))
    assert table["administrators"] == [
        "ip saddr { 198.51.100.0/24 } icmp type echo-request",
        "ip saddr { 198.51.100.0/24 } tcp dport { 22 }",
    ]


def test_a_long_list_of_peers_fits_a_comment() -> None:
    others = [flow(end(f"worker{number}", f"10.0.1.{number}"), ME, 5671) for number in range(60)]
    (rule,) = (rule for rule in table_of(*others)["input"] if rule["comment"] != "ping")
    assert len(rule["comment"]) <= 128


networks = st.builds(
    lambda bits, prefix: str(ipaddress.ip_network((bits, prefix), strict=False)),
    st.integers(0, 2**32 - 1), st.integers(1, 32),
)  # fmt: skip


@given(st.lists(networks, min_size=1, max_size=8), st.integers(0, 2**32 - 1))
def test_collapsed_networks_hold_the_same_addresses_and_do_not_overlap(given: list[str], bits: int) -> None:
    address = ipaddress.ip_address(bits)
    collapsed = [ipaddress.ip_network(network) for network in rules.collapsed(given)["4"]]
    assert any(address in network for network in collapsed) == any(address in ipaddress.ip_network(text) for text in given)
    assert not any(network.overlaps(other) for network, other in permutations(collapsed, 2))


# The program on the host.


def test_a_name_that_no_longer_resolves_keeps_its_addresses() -> None:
    known = {"mirror": {"192.0.2.1": 0.0}}
    assert program.remember(known, {}, ["mirror"], now=1e9) == known


def test_an_address_that_a_name_had_within_a_day_stays_open() -> None:
    before = {"mirror": {"192.0.2.1": 1000.0, "192.0.2.2": 1000.0 - program.KEPT_SECONDS}}
    after = program.remember(before, {"mirror": ["192.0.2.3"]}, ["mirror"], now=1001.0)
    assert after == {"mirror": {"192.0.2.1": 1000.0, "192.0.2.3": 1001.0}}


def test_a_name_that_left_the_inventory_is_forgotten() -> None:
    assert program.remember({"gone": {"192.0.2.1": 1.0}}, {}, [], now=2.0) == {}


def test_a_dead_resolver_delays_no_other_name() -> None:
    never = threading.Event()
    addresses = program.look_up(
        ["dead", "alive"], lambda name: never.wait(5) or [] if name == "dead" else ["192.0.2.1"], patience=0.3
    )
    never.set()
    assert addresses == {"alive": ["192.0.2.1"]}


def test_addresses_go_into_the_set_of_their_family() -> None:
    text = program.elements({"m": ["mirror"]}, {"mirror": {"192.0.2.1": 0, "2001:db8::1": 0}})
    assert text.splitlines() == [
        "flush set inet grunnfjell m_4",
        "add element inet grunnfjell m_4 { 192.0.2.1 }",
        "flush set inet grunnfjell m_6",
        "add element inet grunnfjell m_6 { 2001:db8::1 }",
    ]


def listing(*entries: dict[str, Any]) -> str:
    return json.dumps({"nftables": [{"metainfo": {"version": "1"}}, *entries]})


RULE = {"rule": {"chain": "input", "handle": 4, "expr": [{"counter": {"packets": 1, "bytes": 2}}, {"accept": None}]}}


def test_counters_handles_and_addresses_of_names_do_not_change_the_fingerprint() -> None:
    later = {"rule": {"chain": "input", "handle": 9, "expr": [{"counter": {"packets": 7, "bytes": 9}}, {"accept": None}]}}
    taken_over = {"rule": {"chain": "older", "handle": 2, "expr": [{"accept": None}]}}
    before = listing(RULE, {"set": {"name": "m_4", "handle": 1, "elem": ["192.0.2.1"]}})
    after = listing(taken_over, later, {"set": {"name": "m_4", "handle": 3}})
    assert program.fingerprint_of(before) == program.fingerprint_of(after)


@pytest.mark.parametrize(
    "entry", [{"rule": {"chain": "input", "expr": [{"drop": None}]}}, {"rule": {"chain": "output", "expr": RULE["rule"]["expr"]}}]
)
def test_another_rule_changes_the_fingerprint(entry: dict[str, Any]) -> None:
    assert program.fingerprint_of(listing(RULE)) != program.fingerprint_of(listing(RULE, entry))


@pytest.mark.parametrize("file", ["rules.nft.j2", "fallback.nft.j2"])
def test_nft_accepts_the_rendered_rules(file: str) -> None:
    if not shutil.which("unshare") or not shutil.which("nft"):
        pytest.skip("nft is not on this machine")
    flows = [
        flow(ME, end("broker1", "10.0.0.1"), 5671),
        flow(ME, end("mail", "mail.example.net", "2001:db8::5", "10.0.0.0/8", "10.1.0.0/16", kind="site"), 25, "mail_relay"),
        flow(end("world", "0.0.0.0/0", "::/0", kind="site"), ME, 443, "http"),
        flow(end("operations", "198.51.100.0/24", "2001:db8:1::/48", kind="site"), ME, 22, "ssh"),
        flow(ME, end("exchange", "192.0.2.1", kind="site"), None, "exchange_point", "icmp"),
        flow(ME, end("db1", "10.0.0.2"), 5432, "postgresql", user="root"),
    ]
    table = table_of(*flows)
    jinja = Environment(
        loader=FileSystemLoader(ROOT / "roles/firewall/templates"),
        undefined=StrictUndefined,
        trim_blocks=True,
        keep_trailing_newline=True,
    )
    text = jinja.get_template(f"etc/grunnfjell/firewall/{file}").render(
        __firewall_table=table, firewall_dhcp=True, firewall_log_per_minute=10
    )
    if file == "rules.nft.j2":
        text += program.elements(table["names"], {"mail.example.net": {"192.0.2.9": 0.0}})
    done = subprocess.run(
        ["unshare", "--net", "--map-root-user", "nft", "-c", "-f", "-"], input=text, capture_output=True, text=True, check=False
    )
    if "Operation not permitted" in done.stderr and "unshare" in done.stderr:
        pytest.skip("this machine allows no separate network")
    assert done.returncode == 0, done.stderr
