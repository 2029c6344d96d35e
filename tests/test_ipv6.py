"""A fleet by IPv6: addresses are in brackets before a port, and count by their value, not their spelling.

Review finding 18.
"""

from pathlib import Path
from urllib.parse import urlsplit

import jinja2
import pytest
from ansible_collections.grunnfjell.platform.plugins.plugin_utils.fleet.model import Fleet, Host, same_address
from ansible_collections.grunnfjell.platform.plugins.plugin_utils.fleet.reach import split_place
from ansible_collections.grunnfjell.platform.plugins.plugin_utils.network.endpoints import accepts
from ansible_collections.grunnfjell.platform.plugins.plugin_utils.refusals.machines import duplicate_machines, public_addresses
from ansible_collections.grunnfjell.platform.plugins.plugin_utils.sizing.celery import broker_url

ROOT = Path(__file__).resolve().parents[1]


def test_a_broker_is_found_by_the_port_of_its_address():
    first, second = broker_url(["fd00::11", "10.0.0.11"], 5671, "u", "p", "x").split(";")
    assert (urlsplit(first).hostname, urlsplit(first).port) == ("fd00::11", 5671)
    assert second == "pyamqp://u:p@10.0.0.11:5671/x"


@pytest.mark.parametrize(
    ("first", "second", "same"),
    [
        ("fd00::11", "fd00:0:0:0:0:0:0:11", True),
        ("FD00::11", "fd00::11", True),
        ("fd00::11", "fd00::12", False),
        ("db1", "db1", True),
        ("db1", "db2", False),
        ("10.0.0.1", None, False),
    ],
)
def test_spellings_of_an_address_are_the_same_address(first, second, same):
    assert same_address(first, second) is same


def fleet(**addresses: str) -> Fleet:
    return Fleet({name: Host(name, frozenset({"rabbitmq"}), (), address) for name, address in addresses.items()}, {})


def test_a_host_is_found_by_any_spelling_of_its_address():
    two_hosts = fleet(broker1="fd00::11", web1="fd00::41")
    broker1 = two_hosts.hosts["broker1"]
    assert two_hosts.at("fd00:0::11", two_hosts.hosts["web1"]) is broker1
    broker1.inputs["rabbitmq_listeners_ssl"] = ["[fd00:0::11]:5671"]
    assert accepts(broker1, "rabbitmq", "fd00::11", 5671)
    assert list(duplicate_machines(fleet(broker1="fd00::11", broker2="fd00:0::11")))


@pytest.mark.parametrize("text", ["[fd00::41]:8000", "fd00::41:8000"])
def test_the_port_follows_the_last_colon(text):
    assert split_place(text) == ("fd00::41", 8000)


@pytest.mark.parametrize("address", ["8.8.8.8", "2001:4860:4860::8888"])
def test_a_public_address_may_be_waived_with_a_reason(address):
    public = fleet(broker1=address)
    (sentence,) = public_addresses(public)
    assert "a public address" in sentence and "topology_waivers: {public_address: <reason>}" in sentence
    public.hosts["broker1"].inputs["topology_waivers"] = {"public_address": "the provider has no private network"}
    assert list(public_addresses(public)) == []


def test_the_listeners_of_a_broker_are_written_without_brackets_which_rabbitmq_does_not_read():
    template = (ROOT / "roles/rabbitmq/templates/etc/rabbitmq/rabbitmq.conf.j2").read_text()
    head = template[: template.index("ssl_options")]
    listeners = ["[fd00::11]:5671", "10.0.0.11:5671"]
    text = jinja2.Environment(trim_blocks=True).from_string(head).render(rabbitmq_listeners_ssl=listeners)
    assert text.split()[-6:] == ["listeners.ssl.1", "=", "fd00::11:5671", "listeners.ssl.2", "=", "10.0.0.11:5671"]
