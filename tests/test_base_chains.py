"""Other firewalls on a host are found, and refused where they conflict with the kit's. Review finding 29."""

import json

import pytest
from ansible_collections.grunnfjell.platform.plugins.module_utils.base_chains import measured, of_iptables, of_nftables
from ansible_collections.grunnfjell.platform.plugins.plugin_utils.fleet.model import Fleet, Host
from ansible_collections.grunnfjell.platform.plugins.plugin_utils.refusals.other_firewalls import (
    other_firewalls,
    unexplained_firewall_waivers,
)

OPEN = {"rules": 0, "closes": False, "owner": ""}
FORWARD = {"chain": "ip filter FORWARD", "hook": "forward", "policy": "accept", **OPEN}
INPUT = {"chain": "ip filter INPUT", "hook": "input", "policy": "accept", **OPEN}
OUTPUT = {"chain": "inet x out", "hook": "output", "policy": "accept", **OPEN}


def chain(name: str, hook: str | None = None, table: tuple[str, str] = ("ip", "filter"), **more: str) -> dict:
    base = {"type": "filter", "hook": hook, "prio": 0, "policy": "accept"} if hook else {}
    return {"chain": {"family": table[0], "table": table[1], "name": name, **base, **more}}


def rule(name: str, *expressions: dict, table: tuple[str, str] = ("ip", "filter")) -> dict:
    return {"rule": {"family": table[0], "table": table[1], "chain": name, "expr": list(expressions)}}


def ruleset(*entries: dict) -> str:
    return json.dumps({"nftables": [{"metainfo": {}}, *entries]})


def test_other_base_chains_are_reported_with_policy_rules_and_owner():
    own = ("inet", "grunnfjell")
    chains = of_nftables(
        ruleset(
            chain("INPUT", "input", policy="drop"),
            chain("ufw-user-input"),
            chain("PREROUTING", "prerouting", ("ip", "nat"), type="nat"),
            chain("OUTPUT", "output", ("ip", "nat"), type="nat"),
            chain("forward", "forward", own, policy="drop"),
            chain("in", "input", ("inet", "firewalld")),
            rule("in", {"match": {}}, {"accept": None}, table=("inet", "firewalld")),
            rule("in", {"counter": {}}, {"reject": {}}, table=("inet", "firewalld")),
        )
    )
    assert chains == [
        {**INPUT, "policy": "drop", "owner": "ufw"},
        {"chain": "inet firewalld in", "hook": "input", "policy": "accept", "rules": 2, "closes": True, "owner": "firewalld"},
    ]


def test_a_rule_that_drops_some_packets_closes_nothing():
    """For example those of fail2ban."""
    (base_chain,) = of_nftables(ruleset(chain("INPUT", "input"), rule("INPUT", {"match": {}}, {"drop": None})))
    assert base_chain == {**INPUT, "rules": 1}


SAVED = """*nat
:PREROUTING DROP [0:0]
COMMIT
*filter
:INPUT DROP [0:0]
:FORWARD ACCEPT [0:0]
:OUTPUT ACCEPT [0:0]
:DOCKER-USER - [0:0]
-A FORWARD -j DOCKER-USER
-A DOCKER-USER -j RETURN
-A OUTPUT -d 192.0.2.1/32 -j DROP
-A OUTPUT -j REJECT --reject-with icmp-port-unreachable
COMMIT
"""


def test_the_output_of_iptables_save_is_read_too():
    chains = of_iptables(SAVED, "ip")
    assert [tuple(chain[key] for key in ("chain", "policy", "rules", "closes", "owner")) for chain in chains] == [
        ("ip filter INPUT", "drop", 0, False, "Docker"),
        ("ip filter FORWARD", "accept", 1, False, "Docker"),
        ("ip filter OUTPUT", "accept", 2, True, "Docker"),
    ]


def test_jumps_to_empty_chains_do_not_count_as_rules():
    """`ufw disable` leaves them behind, and the refusal must end with its remedy."""
    (base_chain,) = of_nftables(
        ruleset(
            chain("FORWARD", "forward"),
            chain("ufw-before-forward"),
            chain("ufw-user-forward"),
            rule("FORWARD", {"counter": {}}, {"jump": {"target": "ufw-before-forward"}}),
            rule("ufw-before-forward", {"jump": {"target": "ufw-user-forward"}}),
        )
    )
    assert base_chain == {**FORWARD, "owner": "ufw"}
    saved = SAVED.replace("-A DOCKER-USER -j RETURN\n", "")
    assert [chain["rules"] for chain in of_iptables(saved, "ip")] == [0, 0, 2]


@pytest.mark.parametrize(
    ("nft", "legacy", "asked"),
    [
        ("{}", "", {"nft"}),
        ("", "", {"nft", "iptables-save", "ip6tables-save"}),
        ("{}", "filter\n", {"nft", "iptables-legacy-save"}),
        ("{}", "nat\n", {"nft"}),
    ],
)
def test_iptables_is_asked_only_where_nft_does_not_see_it(tmp_path, write, nft, legacy, asked):
    write("proc/net/ip_tables_names", legacy)
    called = []

    def run(*argv: str) -> str:
        called.append(argv[0])
        return nft if argv[0] == "nft" else ""

    assert measured(tmp_path, run) == []
    assert set(called) == asked


def sentences(*chains: dict, **inputs: object) -> list[str]:
    host = Host("db1", frozenset({"firewall"}), (), "10.0.0.1", inputs=dict(inputs), measured={"base_chains": list(chains)})
    fleet = Fleet({"db1": host}, {})
    return [*other_firewalls(fleet), *unexplained_firewall_waivers(fleet)]


def test_chains_that_accept_everything_are_not_refused():
    """Listing the rules of iptables creates such chains."""
    assert sentences(FORWARD, INPUT, OUTPUT) == []


@pytest.mark.parametrize(
    ("chain", "sentence_part"),
    [
        ({**INPUT, "policy": "drop"}, "the firewall's chain 'ip filter INPUT' drops unknown packets"),
        ({**OUTPUT, "closes": True}, "the firewall's chain 'inet x out' drops unknown packets"),
        ({**FORWARD, "rules": 3, "owner": "Docker"}, "the firewall's chain 'ip filter FORWARD' of Docker forwards packets"),
        ({**FORWARD, "policy": "drop"}, "forwards packets, but the kit's firewall forwards none"),
    ],
)
def test_chains_that_break_a_fleet_are_refused_by_name(chain, sentence_part):
    (sentence,) = sentences(chain)
    assert sentence_part in sentence and f"firewall_waivers: {{{chain['chain']}: <reason>}}" in sentence
    assert sentences(chain, firewall_waivers={chain["chain"]: "it lets our ports in too"}) == []
    assert sentences(chain, firewall_state="absent") == []


def test_an_active_ufw_is_refused_once_with_its_remedy():
    """It has four closing chains, and one command removes them all."""
    (sentence,) = sentences(
        {**INPUT, "policy": "drop", "owner": "ufw"}, {**FORWARD, "policy": "drop", "rules": 3, "owner": "ufw"}
    )
    assert "Declare what `ufw status` lists" in sentence and sentence.endswith("then run `ufw disable`.")
    assert sentences({**INPUT, "owner": "ufw"}, OUTPUT) == []


def test_a_waiver_needs_a_reason():
    (sentence,) = sentences({**INPUT, "policy": "drop"}, firewall_waivers={"ip filter INPUT": " "})
    assert "without a reason" in sentence
