"""Hosts, ports and connections that cannot work are refused, with a sentence that names what to edit."""

import re
from dataclasses import replace

import pytest
from fleets import HOSTS, make_host, refused, with_inputs


def test_a_fleet_that_works_is_not_refused() -> None:
    assert refused() == []


def test_an_empty_group_is_named() -> None:
    (sentence,) = refused(broker1=None)
    assert "The group 'rabbitmq' has no host" in sentence and "topology_roles" in sentence


@pytest.mark.parametrize(("distribution", "release"), [("Debian", "11"), ("Ubuntu", "24")])
def test_an_unsupported_system_is_named(distribution: str, release: str) -> None:
    (sentence,) = refused(db1=replace(HOSTS["db1"], distribution=distribution, release=release))
    assert f"db1 runs {distribution} {release}" in sentence and "Debian 12, Debian 13" in sentence


def test_the_system_of_an_unmeasured_host_is_not_refused() -> None:
    assert refused(db1=replace(HOSTS["db1"], distribution=None, release=None, machine_id=None)) == []


def test_a_worker_on_a_database_host_is_refused_by_name() -> None:
    (sentence,) = refused(db1=replace(HOSTS["db1"], roles=frozenset({"postgresql", "celery_worker"}), applications=("newsroom",)))
    assert sentence.startswith("db1 is in both groups; 'postgresql' and 'celery_workers' must not share a machine")


@pytest.mark.parametrize(
    ("identity", "pattern"),
    [
        pytest.param(
            {"address": HOSTS["db1"].address}, "db1 and worker2 have the address.*must not share a machine", id="address"
        ),
        pytest.param({"machine_id": "id-db1"}, "db1 and worker2 have the machine identity id-db1", id="machine identity"),
        pytest.param({"machine_id": "id-worker1"}, ".*worker1 and worker2 are one machine", id="roles that may share a machine"),
    ],
)
def test_two_names_for_one_machine_are_refused(identity: dict[str, str], pattern: str) -> None:
    sentences = refused(worker2=replace(HOSTS["worker2"], **identity))
    assert any(re.match(pattern, sentence, re.DOTALL) for sentence in sentences)


def test_more_pooled_connections_than_the_server_grants_are_refused_with_both_numbers() -> None:
    (sentence,) = refused(db1={"postgresql_max_connections": 83})
    assert "may open 81 connections to db1, which grants 80" in sentence
    assert refused(db1={"postgresql_max_connections": 84}) == []


@pytest.mark.parametrize(
    ("name", "inputs", "refusals"),
    [
        ("db1", {"postgresql_listen_addresses": ["localhost"], "postgresql_port": 432}, 1),
        ("worker1", {"pgbouncer_listen_addr": "127.0.0.1", "pgbouncer_listen_port": 1023}, 1),
        ("worker1", {"pgbouncer_listen_addr": "127.0.0.1", "pgbouncer_listen_port": 1024}, 0),
        ("broker1", {"rabbitmq_listeners_ssl": ["10.0.0.1:443"]}, 1),
        ("web1", {"producer_bind": "10.0.0.1:443"}, 0),  # supervisord is root, and opens it
    ],
)
def test_a_port_that_only_root_may_open_is_refused_for_other_accounts(name: str, inputs: dict, refusals: int) -> None:
    assert sum("may open ports below 1024" in sentence for sentence in refused(**{name: inputs})) == refusals


@pytest.mark.parametrize(("offset", "refusals"), [(5.0, 0), (-5.0, 0), (5.1, 1), (-5.1, 1), (None, 0)])
def test_a_clock_may_be_off_by_its_limit(offset: float | None, refusals: int) -> None:
    web1 = replace(HOSTS["web1"], measured={"clock_offset_seconds": offset}, inputs={"topology_clock_offset_max": 5})
    assert len(refused(web1=web1)) == refusals


LISTENERS = {
    "ours after an earlier run": ("10.0.0.9", 5432, "postgres", "postgresql@17-main.service", 0),
    "of another program": ("10.0.0.9", 5432, "nginx", "nginx.service", 1),
    "of another program on every address": ("::", 5432, "nginx", "nginx.service", 1),
    "of another program on another address": ("10.0.0.10", 5432, "nginx", "nginx.service", 0),
    "of another program on another port": ("10.0.0.9", 5433, "nginx", "nginx.service", 0),
    "of a program that this account may not see": ("10.0.0.9", 5432, "", "", 1),
}


@pytest.mark.parametrize("case", LISTENERS)
def test_only_listeners_of_other_programs_take_a_port(case: str) -> None:
    address, port, program, unit, refusals = LISTENERS[case]
    listening = [{"address": address, "port": port, "program": program, "unit": unit}]
    server = make_host("db1", "postgresql", postgresql_listen_addresses=["10.0.0.9"], postgresql_port=5432)
    assert len(refused(db1=replace(server, measured={"listening": listening}))) == refusals


@pytest.mark.parametrize(("user", "refusals"), [("root", 0), ("www-data", 1)])
def test_a_process_that_calls_itself_systemd_still_takes_a_port(user: str, refusals: int) -> None:
    """A process chooses its name, but not its account."""
    listening = [{"address": "10.0.97.1", "port": 5671, "program": "systemd", "unit": "", "user": user}]
    broker = make_host("broker1", "rabbitmq", rabbitmq_listeners_ssl=["10.0.97.1:5671"])
    sentences = refused(broker1=replace(broker, measured={"listening": listening}))
    assert sum("wants port" in sentence for sentence in sentences) == refusals


@pytest.mark.parametrize(("producer", "worker", "refusals"), [("a", "a", 0), ("b", "b", 0), ("a", "b", 1)])
def test_a_second_broker_is_accepted_while_each_broker_that_gets_jobs_has_a_worker(
    producer: str, worker: str, refusals: int
) -> None:
    """To leave a broker of an older series, a second one takes new jobs while workers empty the first."""
    brokers = {
        "a": make_host("a", "rabbitmq", rabbitmq_listeners_ssl=["10.0.97.1:5671"]),
        "b": make_host("b", "rabbitmq", rabbitmq_listeners_ssl=["10.0.98.1:5671"]),
    }
    clients = {
        name: {"application_broker_hosts": [brokers[broker].address], "application_broker_port": 5671}
        for name, broker in {"web1": producer, "worker1": worker, "worker2": worker}.items()
    }
    sentences = refused(broker1=None, **brokers, **clients)
    assert len(sentences) == refusals, sentences


def refused_from(**controllers: str) -> list[str]:
    """controllers: by host, the address from which it sees the control node connect; web1 is 10.0.<n>.1."""
    return refused(
        **{
            name: with_inputs(replace(HOSTS[name], measured={"controller": address}), host_ssh_tcp_forwarding=False)
            for name, address in controllers.items()
        }
    )


def test_a_jump_host_that_may_not_forward_is_named() -> None:
    """Review finding 11."""
    web1 = str(HOSTS["web1"].address)
    (sentence,) = refused_from(db1=web1, web1="198.51.100.7")
    assert "web1: host_ssh_tcp_forwarding is false" in sentence and f"reaches db1 through web1 ({web1})" in sentence
    assert "Set host_ssh_tcp_forwarding: true for web1" in sentence


def test_a_run_started_on_a_host_of_the_fleet_needs_no_forwarding() -> None:
    web1 = str(HOSTS["web1"].address)
    assert refused_from(db1=web1, web1="127.0.0.1") == refused_from(db1=web1, web1=web1) == refused_from(db1="198.51.100.7") == []


@pytest.mark.parametrize(("ports", "port", "refusals"), [(None, 2222, 0), ([2222], 2222, 0), ([22], 2222, 1), ([22], 22, 0)])
def test_administrators_need_a_site_that_opens_the_port_of_ssh(ports: list[int] | None, port: int, refusals: int) -> None:
    """Review finding 34: SSH may use any port that the site opens."""
    site = {"name": "ops", "kind": "administrators", "addresses": ["198.51.100.0/24"], "country": "NO"} | (
        {"ports": ports} if ports else {}
    )
    db1 = with_inputs(HOSTS["db1"], topology_sites=[site])
    db1 = replace(db1, roles=db1.roles | {"firewall"}, measured={"controller": "198.51.100.7", "ssh_port": port})
    assert sum("its sshd listens on port 2222" in sentence for sentence in refused(db1=db1)) == refusals
