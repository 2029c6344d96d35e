"""The account's own parts: who connects to whom, what a host's memory goes to, what the table and the file say."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from ansible_collections.grunnfjell.platform.plugins.modules.rabbitmq_consumers import address, consumers_of
from ansible_collections.grunnfjell.platform.plugins.plugin_utils.capacity.clients import broker_connections, database_connections
from ansible_collections.grunnfjell.platform.plugins.plugin_utils.capacity.connections import connections_of
from ansible_collections.grunnfjell.platform.plugins.plugin_utils.capacity.plan import Plan, as_data, plan
from ansible_collections.grunnfjell.platform.plugins.plugin_utils.capacity.room import lines
from ansible_collections.grunnfjell.platform.plugins.plugin_utils.capacity.table import WIDTH, table
from ansible_collections.grunnfjell.platform.plugins.plugin_utils.fleet.model import Fleet, Host
from ansible_collections.grunnfjell.platform.plugins.plugin_utils.fleet.units import MIB
from ansible_collections.grunnfjell.platform.plugins.plugin_utils.reports.unknown_consumers import unknown_consumers
from ansible_collections.grunnfjell.platform.plugins.plugin_utils.sizing.celery_worker import Program, worker_program
from ansible_collections.grunnfjell.platform.plugins.plugin_utils.sizing.postgresql import postgresql_bytes
from test_wrong_inventories import judge

ROLES = {role: (role,) for role in ("rabbitmq", "postgresql", "pgbouncer", "celery_worker", "producer")}
POOL = {
    "pgbouncer_pools": 1,
    "pgbouncer_default_pool_size": 20,
    "pgbouncer_reserve_pool_size": 5,
    "pgbouncer_auth_max_user_connections": 2,
    "pgbouncer_max_client_conn": 1000,
    "pgbouncer_listen_port": 6432,
    "pgbouncer_databases": {"*": {"host": "10.0.0.2", "port": 5432}},
}
WORKER = {
    "celery_worker_programs": [{"name": "celery-worker"}],
    "celery_worker_concurrency": 4,
    "celery_worker_process_memory_bytes": 256 * MIB,
}


def host(name: str, place: str, *roles: str, memory: int = 2048, **inputs: object) -> Host:
    applications = ("newsroom",) if {"celery_worker", "producer"} & set(roles) else ()
    resources = {"memory_bytes": memory * MIB, "cpus": 2, "descriptors_max": 20000}
    return Host(name, frozenset(roles), applications, place, name, "Debian", "13", inputs, measured=resources)


def fleet(**changes: Host) -> Fleet:
    server = {"postgresql_max_connections": 111, "postgresql_superuser_reserved_connections": 3}
    hosts = {
        "broker1": host("broker1", "10.0.0.1", "rabbitmq", rabbitmq_nofile=65536),
        "db1": host("db1", "10.0.0.2", "postgresql", **server),
        "worker1": host("worker1", "10.0.0.3", "celery_worker", "pgbouncer", **WORKER, **POOL),
        "worker2": host("worker2", "10.0.0.4", "celery_worker", "pgbouncer", **WORKER, **POOL),
        "web1": host("web1", "10.0.0.5", "producer", "pgbouncer", producer_workers=2, producer_threads=16, **POOL),
    } | changes
    return Fleet(hosts, ROLES, ("newsroom",))


def made(**changes: Host) -> Plan:
    return plan(fleet(**changes), [], [])


def line(name: str, what: str, **changes: Host):
    (found,) = [each for each in lines(fleet(**changes)) if each.name == (name, what)]
    return found


@pytest.mark.parametrize(
    ("arguments", "processes", "tasks"),
    [
        ([], 4, 4),
        (["--autoscale=10,3"], 10, 10),
        (["--autoscale", "10,3"], 10, 10),
        (["-c", "7"], 7, 7),
        (["--concurrency=7"], 7, 7),
        (["--pool=threads"], 1, 4),
        (["-P", "gevent", "-c", "100"], 1, 100),
        (["--pool=solo"], 1, 1),
    ],
)
def test_a_program_counts_as_celery_reads_its_arguments(arguments: list[str], processes: int, tasks: int) -> None:
    assert worker_program({"name": "p", "arguments": arguments}, 4) == Program("p", processes, tasks)


def test_numbers_given_as_text_count_as_numbers() -> None:
    text = {**WORKER, "celery_worker_concurrency": "4"}
    assert database_connections(host("w", "10.0.0.9", "celery_worker", **text)) == 4


def test_every_task_and_every_web_thread_is_a_client() -> None:
    assert line("worker1", "clients of PgBouncer").used == 4
    assert line("web1", "clients of PgBouncer").used == 32


def test_a_central_bouncer_has_the_clients_of_all_and_the_fleet_its_pools_once() -> None:
    central = host("db1", "10.0.0.2", "postgresql", "pgbouncer", postgresql_max_connections=50,
                   postgresql_superuser_reserved_connections=3, **POOL)  # fmt: skip
    place = {"application_database_host": "10.0.0.2", "application_database_port": 6432}
    others = {
        name: replace(one, roles=one.roles - {"pgbouncer"}, inputs={**one.inputs, **place})
        for name, one in fleet().hosts.items()
        if name in ("worker1", "worker2", "web1")
    }
    assert line("db1", "clients of PgBouncer", db1=central, **others).used == 40
    assert line("db1", "connections to PostgreSQL", db1=central, **others).used == 27
    (room,) = made(db1=central, **others).rooms
    assert room.workers == (1000 - 40) // 4 and room.stopped_by.what == "clients of PgBouncer"


def test_programs_that_go_past_pgbouncer_count_against_the_server() -> None:
    direct = {"application_database_host": "10.0.0.2", "application_database_port": 5432, "postgresql_port": 5432}
    worker = replace(fleet().hosts["worker1"], inputs={**fleet().hosts["worker1"].inputs, **direct})
    assert line("db1", "connections to PostgreSQL", worker1=worker).used == 3 * 27 + 4


def test_a_bouncer_beyond_loopback_needs_memory_for_the_tls_of_its_clients() -> None:
    def used(**more: object) -> int:
        return line(
            "worker1", "memory", worker1=host("worker1", "10.0.0.3", "celery_worker", "pgbouncer", **WORKER, **POOL, **more)
        ).used

    assert used(pgbouncer_client_tls_sslmode="verify-ca") - used(pgbouncer_client_tls_sslmode="disable") == 1000 * 32 * 1024


def test_a_database_s_own_pool_size_counts_where_it_is_larger() -> None:
    databases = {"*": {"host": "10.0.0.2"}, "archive": {"host": "10.0.0.2", "pool_size": 50}}
    assert connections_of(host("b", "10.0.0.9", "pgbouncer", **{**POOL, "pgbouncer_databases": databases})) == 50 + 5 + 2


def test_the_cap_of_a_database_counts_where_the_inventory_sets_one() -> None:
    assert connections_of(host("b", "10.0.0.9", "pgbouncer", **{**POOL, "pgbouncer_max_db_connections": 60})) == 60


def test_a_drained_worker_returns_its_share_and_is_no_measure_of_the_next() -> None:
    one = fleet().hosts["worker1"]
    gone = replace(one, inputs={**one.inputs, "celery_worker_state": "drained"})
    assert line("db1", "connections to PostgreSQL", worker1=gone).used == 2 * 27
    (room,) = made(worker1=gone).rooms
    assert (room.like, room.workers) == ("worker2", 2)


def test_the_second_reserve_of_postgresql_is_reserved_too() -> None:
    server = fleet().hosts["db1"]
    more = replace(server, inputs={**server.inputs, "postgresql_parameters": {"reserved_connections": 8}})
    assert line("db1", "connections to PostgreSQL", db1=more).limit == 100


def test_a_bouncer_that_serves_more_applications_than_its_pools_are_counted_for_is_refused() -> None:
    other = replace(fleet().hosts["web1"], applications=("mails",))
    other = replace(other, inputs={**other.inputs, "application_database_host": "10.0.0.3"})
    named = replace(fleet().hosts["worker1"], inputs={**fleet().hosts["worker1"].inputs, "application_database_host": "10.0.0.3"})
    over = line("worker1", "pairs of user and database", web1=other, worker1=named)
    assert over.left == -1 and "Set pgbouncer_pools to 2" in over.refusal


def test_broker_connections_are_those_that_were_counted_on_running_hosts() -> None:
    assert broker_connections(fleet().hosts["worker1"]) == 3 + 4
    assert broker_connections(fleet().hosts["web1"]) == 2 * 10


@pytest.mark.parametrize(
    ("size", "expected"), [("512MB", 512 * MIB), ("2455kB", 2455 * 1024), ("1 GB", 1024 * MIB), (16, 16 * 8192)]
)
def test_sizes_are_read_as_postgresql_reads_them(size: object, expected: int) -> None:
    assert postgresql_bytes(size, 8192) == expected


def test_work_mem_of_every_connection_must_fit_the_database_host() -> None:
    sized = {"postgresql_shared_buffers": "512MB", "postgresql_maintenance_work_mem": "64MB"}
    server = fleet().hosts["db1"]
    fits = replace(server, inputs={**server.inputs, **sized, "postgresql_work_mem": "4MB"})
    assert line("db1", "memory", db1=fits).left >= 0
    over = line("db1", "memory", db1=replace(fits, inputs={**fits.inputs, "postgresql_work_mem": "64MB"}))
    assert over.left < 0 and "111 connections × (work_mem 64 MiB + 3 MiB)" in over.refusal and "2048 MiB" in over.refusal


def test_a_database_beside_a_program_is_told_to_size_itself_by_less() -> None:
    sizes = {"shared_buffers": "512MB", "work_mem": "16MB", "maintenance_work_mem": "64MB"}
    server = fleet().hosts["db1"].inputs | {f"postgresql_{key}": size for key, size in sizes.items()}
    web = {"producer_workers": 2, "producer_threads": 16, "producer_process_memory_bytes": 64 * MIB}
    over = line("db1", "memory", db1=host("db1", "10.0.0.2", "postgresql", "producer", **server, **web))
    assert over.left < 0 and over.refusal.endswith("lower postgresql_memory_bytes, by which it sizes itself.")


def test_a_host_that_was_not_measured_is_not_judged_by_its_memory() -> None:
    blind = replace(fleet().hosts["worker1"], measured={})
    assert not [each for each in lines(fleet(worker1=blind)) if each.name == ("worker1", "memory")]
    assert plan(fleet(worker1=blind), [], []).not_measured == ("worker1",)


def test_the_plan_names_how_many_fit_and_what_stops_the_next() -> None:
    told = as_data(made())
    assert told["workers_that_fit"] == 1
    assert told["stopped_by"] == "connections to PostgreSQL of db1: 135 would be needed, but there are 108"
    json.dumps(told)


def test_a_fleet_that_does_not_fit_has_room_for_nobody_and_says_why() -> None:
    told = as_data(plan(fleet(), ["db1 is too small. Raise it."], None))
    assert (told["workers_that_fit"], told["stopped_by"]) == (0, "db1 is too small. Raise it.")
    assert "THIS FLEET DOES NOT FIT" in table(plan(fleet(), ["db1 is too small. Raise it."], None))


def test_the_table_answers_first_and_is_narrow_and_a_hundred_hosts_are_one_row() -> None:
    model = fleet().hosts["worker1"]
    many = {f"w{n}": replace(model, name=f"w{n}", address=f"10.1.0.{n}") for n in range(100)}
    said = table(made(**many))
    assert said.startswith("This fleet fits. Room for no more worker") or "Room for" in said.splitlines()[0]
    assert max(map(len, said.splitlines())) <= WIDTH
    assert len(said.splitlines()) < 80


NODE = {"vhost": "newsroom", "queue": "celery-worker@worker1.celery.pidbox", "address": "10.0.0.3"}


def test_workers_of_the_inventory_are_no_strangers() -> None:
    own = [NODE, {"vhost": "newsroom", "queue": "newsroom", "address": "10.0.0.3"}]
    operators = [{"vhost": "newsroom", "queue": queue, "address": "10.9.9.9"}
                 for queue in ("dead_letters", "celeryev.1234", "1234.reply.celery.pidbox")]  # fmt: skip
    assert unknown_consumers(fleet(), own + operators) == []


def test_a_worker_that_no_line_names_is_named_with_its_address() -> None:
    elsewhere = {"vhost": "newsroom", "address": "10.0.0.9"}
    told = [NODE, elsewhere | {"queue": "celery-mail@worker9.celery.pidbox"}, elsewhere | {"queue": "newsroom"}]
    (sentence,) = unknown_consumers(fleet(), told)
    assert sentence.startswith("celery-mail@worker9 at 10.0.0.9 consumes in the virtual host newsroom")


def test_a_program_that_left_its_host_is_named_though_its_host_is_known() -> None:
    (sentence,) = unknown_consumers(fleet(), [NODE | {"queue": "celery-old@worker1.celery.pidbox"}])
    assert "celery-old@worker1 at 10.0.0.3" in sentence


def test_consumers_are_told_by_the_address_of_their_connection() -> None:
    told = consumers_of(
        "v", [{"queue_name": "q", "channel_pid": "c1"}, {"queue_name": "r", "channel_pid": "gone"}],
        [{"pid": "c1", "connection": "k1"}], [{"pid": "k1", "peer_host": [10, 0, 0, 9]}],
    )  # fmt: skip
    assert told == [{"vhost": "v", "queue": "q", "address": "10.0.0.9"}, {"vhost": "v", "queue": "r", "address": ""}]
    assert address([0, 0, 0, 0, 0, 0, 0, 1]) == "::1"


def test_the_playbook_prints_the_account_of_a_fleet_that_does_not_fit(tmp_path) -> None:
    report = tmp_path / "plan.json"
    row = {
        "vars": {"postgresql": {"postgresql_max_connections": 60}},
        "play": ("playbooks/plan.yml", "--extra-vars", f"topology_plan_file={report}"),
    }
    verdict = judge({"too small": row}, tmp_path)["too small"]
    assert verdict.returncode != 0, verdict.said
    assert "THIS FLEET DOES NOT FIT" in verdict.said and "connections to PostgreSQL" in verdict.said, verdict.said
    assert "changed=0" in verdict.said and "changed=1" not in verdict.said
    told = json.loads(report.read_text())
    assert told["workers_that_fit"] == 0 and "may open 81 connections to db1, which grants 57" in told["stopped_by"]
