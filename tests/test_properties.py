"""Properties of the arithmetic and the quoting of filters and plugins, for any value."""

import configparser
import ipaddress
import shlex
from itertools import pairwise
from urllib.parse import unquote, urlsplit

from ansible_collections.grunnfjell.platform.plugins.module_utils.releases import releases_to_remove
from ansible_collections.grunnfjell.platform.plugins.plugin_utils.capacity.timers import TASK_TIMERS, timers_out_of_order
from ansible_collections.grunnfjell.platform.plugins.plugin_utils.fleet.contract import out_of_range, unknown_inputs
from ansible_collections.grunnfjell.platform.plugins.plugin_utils.fleet.model import Fleet, Host
from ansible_collections.grunnfjell.platform.plugins.plugin_utils.sizing import pgbouncer, postgresql, rabbitmq
from ansible_collections.grunnfjell.platform.plugins.plugin_utils.sizing.celery import broker_url
from ansible_collections.grunnfjell.platform.plugins.plugin_utils.sizing.supervisor import supervisor_command, worker_programs
from ansible_collections.grunnfjell.platform.plugins.plugin_utils.trust.logins import (
    application_broker_users,
    application_databases,
    application_vhosts,
)
from hypothesis import given
from hypothesis import strategies as st

from lab.promises import sentence

words = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=20)
# Characters with a meaning in some file are frequent, all others rare.
lines = st.text(st.sampled_from("%'\"\\ =;#$(){}sx") | st.characters(blacklist_categories=["Cs", "Cc", "Zl", "Zp"]), max_size=30)
names = st.from_regex(r"[a-z][a-z0-9_]{0,15}", fullmatch=True)
counts = st.integers(min_value=1, max_value=5000)
addresses = st.ip_addresses(v=4) | st.ip_addresses(v=6)


# Access.


@given(st.lists(addresses.map(str), min_size=1, max_size=6))
def test_a_bouncer_may_listen_only_on_private_addresses(listen: list[str]) -> None:
    refused = pgbouncer.pgbouncer_public_addresses(listen)
    assert refused == pgbouncer.pgbouncer_public_addresses(",".join(listen))
    for address in listen:
        parsed = ipaddress.ip_address(address)
        assert (address in refused) == (parsed.is_global or parsed.is_unspecified or not parsed.is_private)


@given(st.lists(addresses, min_size=1, max_size=8), addresses)
def test_exactly_the_named_addresses_may_connect_to_postgresql(clients: list, other: object) -> None:
    rules = postgresql.postgresql_hba_rules([{"name": "shop", "owner": "shop"}], [str(client) for client in clients])
    networks = [ipaddress.ip_network(rule["address"]) for rule in rules]

    def admitted(address: object) -> bool:
        return any(address in network for network in networks if network.version == address.version)

    assert all(admitted(client) for client in clients)
    assert admitted(other) == (other in clients)


@given(st.lists(names, unique=True, max_size=5))
def test_an_application_gets_no_rights_of_another(applications: list[str]) -> None:
    assert [vhost["name"] for vhost in application_vhosts(applications)] == applications
    assert all(database["name"] == database["owner"] for database in application_databases(applications))
    for user in application_broker_users(applications):
        assert user["tags"] == [] and [permission["vhost"] for permission in user["permissions"]] == [user["name"]]


# Quoting.


@given(st.dictionaries(names, lines.filter(str.strip), min_size=1, max_size=4))
def test_a_connection_string_is_read_from_the_file_of_pgbouncer_as_it_was_written(parts: dict[str, str]) -> None:
    line = pgbouncer.pgbouncer_database_lines({"shop": parts}, "asker")["shop"]
    parsed: dict[str, str] = {}
    rest = line
    while rest:
        key, _, rest = rest.partition("=")
        value = ""
        if rest.startswith("'"):
            # As PgBouncer reads it: two quotes are one, and a single one ends the value.
            rest = rest[1:]
            while True:
                before, _, rest = rest.partition("'")
                value += before
                if not rest.startswith("'"):
                    break
                value, rest = value + "'", rest[1:]
        else:
            value, _, rest = rest.partition(" ")
        parsed[key.strip()] = value
        rest = rest.lstrip(" ")
    assert parsed == {"auth_user": "asker", **parts}


@given(st.lists(lines, min_size=1, max_size=5))
def test_supervisord_starts_a_program_with_exactly_its_arguments(argv: list[str]) -> None:
    command = supervisor_command(argv)
    # supervisord expands %(name)s and %%, then splits as a shell does.
    assert shlex.split(command % {}) == argv


@given(
    names,
    words,
    names,
    st.lists(addresses.filter(lambda a: a.version == 4).map(str), min_size=1, max_size=3),
    st.integers(1, 65535),
)
def test_a_broker_address_is_read_back_as_it_was_written(
    user: str, password: str, vhost: str, hosts: list[str], port: int
) -> None:
    for url, host in zip(broker_url(hosts, port, user, password, vhost).split(";"), hosts, strict=True):
        parts = urlsplit(url)
        assert (parts.scheme, parts.hostname, parts.port) == ("pyamqp", host, port)
        assert (unquote(parts.username), unquote(parts.password), unquote(parts.path[1:])) == (user, password, vhost)


@given(addresses)
def test_an_address_in_erlang_is_the_same_address(address: object) -> None:
    numbers = [int(number) for number in rabbitmq.rabbitmq_erlang_address(str(address)).strip("{}").split(",")]
    width = 8 if address.version == 4 else 16
    assert len(numbers) == (4 if address.version == 4 else 8)
    value = 0
    for number in numbers:
        value = (value << width) + number
    assert value == int(address)


@given(st.dictionaries(names, st.integers() | st.booleans() | words, min_size=1, max_size=5), st.lists(names, max_size=3))
def test_a_release_gets_exactly_the_settings_that_it_knows(own: dict, unknown: list[str]) -> None:
    settings = pgbouncer.pgbouncer_settings(own, {}, unknown)
    assert set(settings) == set(own) - set(unknown) and list(settings) == sorted(settings)
    text = "[pgbouncer]\n" + "".join(f"{key} = {value}\n" for key, value in settings.items())
    parser = configparser.RawConfigParser(delimiters=("=",), comment_prefixes=("\0",))
    parser.optionxform = str
    parser.read_string(text)
    assert dict(parser["pgbouncer"]) == settings


# The fleet.


@given(st.lists(st.integers(1, 5), min_size=len(TASK_TIMERS), max_size=len(TASK_TIMERS)))
def test_timers_are_refused_exactly_when_one_does_not_end_before_the_next(seconds: list[int]) -> None:
    worker = Host("w", frozenset({"celery_worker"}), inputs=dict(zip(TASK_TIMERS, seconds, strict=True)))
    refused = list(timers_out_of_order(Fleet({"w": worker}, {})))
    assert bool(refused) == any(timer >= following for timer, following in pairwise(seconds))


@given(st.integers(-100, 100) | st.floats(-100, 100), st.none() | st.integers(-100, 100), st.none() | st.integers(-100, 100))
def test_a_number_is_refused_exactly_outside_its_bounds(value: float, low: int | None, high: int | None) -> None:
    bounds = {key: bound for key, bound in (("min", low), ("max", high)) if bound is not None}
    refused = list(out_of_range("h", {"host_x": {**bounds, "why": "so."}}, {"host_x": value}))
    assert bool(refused) == ((low is not None and value < low) or (high is not None and value > high))
    assert all(f"host_x is {value}" in sentence_ for sentence_ in refused)


@given(st.sets(names, max_size=5), st.sets(names, max_size=5))
def test_exactly_the_inputs_that_no_role_reads_are_named(given_: set[str], known: set[str]) -> None:
    given_, known = ({f"host_{name}" for name in names_} for names_ in (given_, known))
    refused = list(unknown_inputs("h", given_ | {"other"}, ["host"], known))
    assert len(refused) == len(given_ - known)
    assert all(any(f"h: {name} is" in line for line in refused) for name in given_ - known)


# Releases and programs.


@given(st.lists(names, unique=True, max_size=8), st.integers(2, 5), st.data())
def test_a_release_that_is_current_or_in_use_is_never_removed(releases: list[str], keep: int, data: st.DataObject) -> None:
    ready = [(float(number), name) for number, name in enumerate(releases)]
    current = data.draw(st.sampled_from(releases)) if releases else "none"
    used = data.draw(st.sets(st.sampled_from(releases))) if releases else set()
    gone = set(releases_to_remove(ready, current, keep=keep, used=used))
    assert gone <= set(releases) - used - {current}
    assert len(set(releases) - gone) >= min(keep, len(releases))
    assert len(set(releases) - gone - used - {current}) < keep
    # Every kept release is newer than the removed ones, or needed.
    newest_gone = max((moment for moment, name in ready if name in gone), default=-1.0)
    assert all(name in gone | used | {current} for moment, name in ready if moment < newest_gone)


@given(st.lists(names, unique=True, min_size=1, max_size=4), st.integers(1, 64))
def test_each_program_is_a_separate_node_with_a_separate_log(programs: list[str], concurrency: int) -> None:
    nodes = worker_programs(
        [{"name": f"celery-{name}"} for name in programs], "worker1", "shop.celery", ["shop"], concurrency, "INFO"
    )
    for key in ("name", "node", "log"):
        assert len({program[key] for program in nodes}) == len(programs)
    assert all(f"--concurrency={concurrency}" in program["argv"] for program in nodes)


@given(st.from_regex(r"test_[a-z]+(_[a-z]+){0,8}", fullmatch=True))
def test_a_promise_is_one_sentence(name: str) -> None:
    text = sentence(name)
    assert text[0].isupper() and text.endswith(".") and "_" not in text and "  " not in text
