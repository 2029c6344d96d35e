"""The parts of the plan: who connects to whom, what uses a host's memory, what the table and the file show."""

import json
from dataclasses import replace

import pytest
from ansible_collections.grunnfjell.platform.plugins.modules.rabbitmq_consumers import address, consumers_of
from ansible_collections.grunnfjell.platform.plugins.plugin_utils.capacity.clients import broker_connections, database_connections
from ansible_collections.grunnfjell.platform.plugins.plugin_utils.capacity.connections import connections_of
from ansible_collections.grunnfjell.platform.plugins.plugin_utils.capacity.line import Line
from ansible_collections.grunnfjell.platform.plugins.plugin_utils.capacity.plan import Plan, as_data, plan
from ansible_collections.grunnfjell.platform.plugins.plugin_utils.capacity.room import lines
from ansible_collections.grunnfjell.platform.plugins.plugin_utils.capacity.table import WIDTH, table
from ansible_collections.grunnfjell.platform.plugins.plugin_utils.fleet.model import Fleet, Host
from ansible_collections.grunnfjell.platform.plugins.plugin_utils.fleet.units import MIB
from ansible_collections.grunnfjell.platform.plugins.plugin_utils.reports.unknown_consumers import unknown_consumers
from ansible_collections.grunnfjell.platform.plugins.plugin_utils.sizing.celery_worker import Program, worker_program
from ansible_collections.grunnfjell.platform.plugins.plugin_utils.sizing.postgresql import postgresql_bytes
from fleets import POOL as POOL_SIZES
from fleets import ROLES, Change, changed, with_inputs
from test_wrong_inventories import run_rows

POOL = POOL_SIZES | {
    "pgbouncer_max_client_conn": 1000,
    "pgbouncer_listen_port": 6432,
    "pgbouncer_databases": {"*": {"host": "10.0.0.2", "port": 5432}},
}
WORKER = {
    "celery_worker_programs": [{"name": "celery-worker"}],
    "celery_worker_concurrency": 4,
    "celery_worker_process_memory_bytes": 256 * MIB,
    "celery_worker_main_memory_bytes": 64 * MIB,
}


def make_host(name: str, address: str, *roles: str, memory: int = 2048, **inputs: object) -> Host:
    applications = ("newsroom",) if {"celery_worker", "producer"} & set(roles) else ()
    resources = {"memory_bytes": memory * MIB, "cpus": 2, "descriptors_max": 20000}
    return Host(name, frozenset(roles), applications, address, name, "Debian", "13", inputs, measured=resources)


HOSTS = {
    host.name: host
    for host in (
        make_host("broker1", "10.0.0.1", "rabbitmq", rabbitmq_nofile=65536),
        make_host("db1", "10.0.0.2", "postgresql", postgresql_max_connections=111, postgresql_superuser_reserved_connections=3),
        make_host("worker1", "10.0.0.3", "celery_worker", "pgbouncer", **WORKER, **POOL),
        make_host("worker2", "10.0.0.4", "celery_worker", "pgbouncer", **WORKER, **POOL),
        make_host("web1", "10.0.0.5", "producer", "pgbouncer", producer_workers=2, producer_threads=16, **POOL),
    )
}


def fleet(**changes: Change) -> Fleet:
    return Fleet(changed(HOSTS, changes), ROLES, ("newsroom",))


def plan_of(**changes: Change) -> Plan:
    return plan(fleet(**changes), [], [])


def line_of(host: str, what: str, **changes: Change) -> Line:
    (line,) = [line for line in lines(fleet(**changes)) if line.name == (host, what)]
    return line


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
def test_processes_and_tasks_are_counted_as_celery_reads_its_arguments(arguments: list[str], processes: int, tasks: int) -> None:
    assert worker_program({"name": "p", "arguments": arguments}, 4) == Program("p", processes, tasks)


def test_numbers_given_as_text_count_as_numbers() -> None:
    text = {**WORKER, "celery_worker_concurrency": "4"}
    assert database_connections(make_host("w", "10.0.0.9", "celery_worker", **text)) == 4


def test_every_task_and_every_web_thread_is_a_client() -> None:
    assert line_of("worker1", "clients of PgBouncer").used == 4
    assert line_of("web1", "clients of PgBouncer").used == 32


def test_a_central_bouncer_has_all_clients_and_its_pools_count_once() -> None:
    central = make_host("db1", "10.0.0.2", "postgresql", "pgbouncer", postgresql_max_connections=50,
                        postgresql_superuser_reserved_connections=3, **POOL)  # fmt: skip
    database = {"application_database_host": "10.0.0.2", "application_database_port": 6432}
    hosts = {"db1": central}
    for name in ("worker1", "worker2", "web1"):
        hosts[name] = with_inputs(replace(HOSTS[name], roles=HOSTS[name].roles - {"pgbouncer"}), **database)
    assert line_of("db1", "clients of PgBouncer", **hosts).used == 40
    assert line_of("db1", "connections to PostgreSQL", **hosts).used == 27
    (room,) = plan_of(**hosts).rooms
    assert room.workers == (1000 - 40) // 4 and room.stopped_by.what == "clients of PgBouncer"


def test_programs_that_bypass_pgbouncer_count_against_the_server() -> None:
    direct = {"application_database_host": "10.0.0.2", "application_database_port": 5432, "postgresql_port": 5432}
    assert line_of("db1", "connections to PostgreSQL", worker1=direct).used == 3 * 27 + 4


def test_patroni_keeps_connections_of_its_server() -> None:
    member = replace(HOSTS["db1"], roles=HOSTS["db1"].roles | {"patroni"})
    assert line_of("db1", "connections to PostgreSQL", db1=member).used == 3 * 27 + 3


def test_a_bouncer_beyond_loopback_needs_memory_for_the_tls_of_its_clients() -> None:
    with_tls, without = (
        line_of("worker1", "memory", worker1={"pgbouncer_client_tls_sslmode": mode}).used for mode in ("verify-ca", "disable")
    )
    assert with_tls - without == 1000 * 32 * 1024


def test_the_pool_size_of_a_database_counts_where_it_is_larger() -> None:
    databases = {"*": {"host": "10.0.0.2"}, "archive": {"host": "10.0.0.2", "pool_size": 50}}
    assert connections_of(make_host("b", "10.0.0.9", "pgbouncer", **{**POOL, "pgbouncer_databases": databases})) == 50 + 5 + 2


def test_the_limit_of_a_database_counts_where_the_inventory_sets_one() -> None:
    assert connections_of(make_host("b", "10.0.0.9", "pgbouncer", **{**POOL, "pgbouncer_max_db_connections": 60})) == 60


def test_a_drained_worker_frees_its_connections_and_is_not_the_model_of_the_next() -> None:
    drained = {"celery_worker_state": "drained"}
    assert line_of("db1", "connections to PostgreSQL", worker1=drained).used == 2 * 27
    (room,) = plan_of(worker1=drained).rooms
    assert (room.like, room.workers) == ("worker2", 2)


def test_the_second_reserve_of_postgresql_is_reserved_too() -> None:
    server = {"postgresql_parameters": {"reserved_connections": 8}}
    assert line_of("db1", "connections to PostgreSQL", db1=server).limit == 100


def test_a_bouncer_that_serves_more_applications_than_its_pools_are_counted_for_is_refused() -> None:
    database = {"application_database_host": "10.0.0.3"}
    web1 = with_inputs(replace(HOSTS["web1"], applications=("mails",)), **database)
    over = line_of("worker1", "pairs of user and database", web1=web1, worker1=database)
    assert over.left == -1 and "Set pgbouncer_pools to 2" in over.refusal


def test_broker_connections_are_those_that_were_counted_on_running_hosts() -> None:
    assert broker_connections(HOSTS["worker1"]) == 3 + 4
    assert broker_connections(HOSTS["web1"]) == 2 * 10


@pytest.mark.parametrize(
    ("size", "expected"), [("512MB", 512 * MIB), ("2455kB", 2455 * 1024), ("1 GB", 1024 * MIB), (16, 16 * 8192)]
)
def test_sizes_are_read_as_postgresql_reads_them(size: object, expected: int) -> None:
    assert postgresql_bytes(size, 8192) == expected


def test_work_mem_of_every_connection_must_fit_the_database_host() -> None:
    sized = {"postgresql_shared_buffers": "512MB", "postgresql_maintenance_work_mem": "64MB"}
    assert line_of("db1", "memory", db1={**sized, "postgresql_work_mem": "4MB"}).left >= 0
    over = line_of("db1", "memory", db1={**sized, "postgresql_work_mem": "64MB"})
    assert over.left < 0 and "111 connections × (work_mem 64 MiB + 3 MiB)" in over.refusal and "2048 MiB" in over.refusal


def test_a_database_that_shares_its_host_must_be_sized_by_less_memory() -> None:
    sizes = {"shared_buffers": "512MB", "work_mem": "16MB", "maintenance_work_mem": "64MB"}
    server = HOSTS["db1"].inputs | {f"postgresql_{key}": size for key, size in sizes.items()}
    web = {"producer_workers": 2, "producer_threads": 16, "producer_process_memory_bytes": 64 * MIB}
    web["producer_worker_connections"] = 512
    over = line_of("db1", "memory", db1=make_host("db1", "10.0.0.2", "postgresql", "producer", **server, **web))
    assert over.left < 0 and over.refusal.endswith("lower postgresql_memory_bytes, by which it sizes itself.")


def test_a_main_process_of_celery_takes_what_the_inventory_says() -> None:
    beat = {"celery_worker_beat": True, "celery_worker_main_memory_bytes": 212 * MIB}
    more = line_of("worker1", "memory", worker1=beat).used - line_of("worker1", "memory").used
    assert more == (2 * 212 - 64) * MIB
    over = line_of("worker1", "memory", worker1={"celery_worker_main_memory_bytes": 2048 * MIB})
    assert "The largest part is 1 main processes of Celery × 2048 MiB" in over.refusal
    assert "celery_worker_main_memory_bytes" in over.refusal


def test_a_producer_needs_memory_for_the_clients_that_stall() -> None:
    def memory(connections: int) -> Line:
        sizes = {"producer_workers": 2, "producer_process_memory_bytes": 64 * MIB, "producer_worker_connections": connections}
        return line_of("web1", "memory", web1=make_host("web1", "10.0.0.5", "producer", memory=1024, **sizes))

    few, many = memory(64), memory(16384)
    assert few.left > 0 > many.left and "The largest part is nginx with 32768 connections, 1552 MiB." in many.refusal


def test_named_web_servers_count_like_the_main_one() -> None:
    """A thread of each may hold a connection. Without workers a server has those of the main one."""
    sizes = {"producer_process_memory_bytes": 64 * MIB, "producer_worker_connections": 64, "producer_threads": 4}
    alone = {"producer_workers": 3, "application_database_connections": 2, **sizes}
    named = [{"name": "live", "workers": 2}, {"name": "api"}]

    def web(**inputs: object) -> Host:
        return make_host("web1", "10.0.0.5", "producer", **alone, **inputs)

    assert (database_connections(web()), broker_connections(web())) == (2 * 3 * 4, 3 * 4)
    assert database_connections(web(producer_programs=named)) == 2 * (3 + 2 + 3) * 4
    assert broker_connections(web(producer_programs=named)) == (3 + 2 + 3) * 4
    parts = {part.what: part.used for part in line_of("web1", "memory", web1=web(producer_programs=named)).parts}
    assert parts["8 web processes × 64 MiB"] == 8 * 64 * MIB and parts["their main processes"] == 3 * 24 * MIB
    parts = {part.what: part.used for part in line_of("web1", "memory", web1=web()).parts}
    assert parts["3 web processes × 64 MiB"] == 3 * 64 * MIB and parts["their main process"] == 24 * MIB


def test_the_memory_of_an_unmeasured_host_is_not_checked() -> None:
    unmeasured = replace(HOSTS["worker1"], measured={})
    assert not [line for line in lines(fleet(worker1=unmeasured)) if line.name == ("worker1", "memory")]
    assert plan_of(worker1=unmeasured).not_measured == ("worker1",)


def test_the_plan_names_how_many_workers_fit_and_what_stops_the_next() -> None:
    data = as_data(plan_of())
    assert data["workers_that_fit"] == 1
    assert data["stopped_by"] == "connections to PostgreSQL of db1: 135 would be needed, but there are 108"
    json.dumps(data)


def test_a_fleet_that_does_not_fit_has_no_room_and_names_the_reason() -> None:
    refused = plan(fleet(), ["db1 is too small. Raise it."], None)
    assert (as_data(refused)["workers_that_fit"], as_data(refused)["stopped_by"]) == (0, "db1 is too small. Raise it.")
    assert "THIS FLEET DOES NOT FIT" in table(refused)


def test_the_table_starts_with_the_answer_and_has_one_row_for_a_hundred_hosts() -> None:
    workers = {f"w{n}": replace(HOSTS["worker1"], name=f"w{n}", address=f"10.1.0.{n}") for n in range(100)}
    rows = table(plan_of(**workers)).splitlines()
    assert rows[0].startswith("This fleet fits. Room for no more worker") or "Room for" in rows[0]
    assert max(map(len, rows)) <= WIDTH
    assert len(rows) < 80


NODE = {"vhost": "newsroom", "queue": "celery-worker@worker1.celery.pidbox", "address": "10.0.0.3"}


def test_workers_of_the_inventory_are_not_unknown_consumers() -> None:
    workers = [NODE, {"vhost": "newsroom", "queue": "newsroom", "address": "10.0.0.3"}]
    operators = [{"vhost": "newsroom", "queue": queue, "address": "10.9.9.9"}
                 for queue in ("dead_letters", "celeryev.1234", "1234.reply.celery.pidbox")]  # fmt: skip
    assert unknown_consumers(fleet(), workers + operators) == []


def test_a_worker_outside_the_inventory_is_named_with_its_address() -> None:
    elsewhere = {"vhost": "newsroom", "address": "10.0.0.9"}
    consumers = [NODE, elsewhere | {"queue": "celery-mail@worker9.celery.pidbox"}, elsewhere | {"queue": "newsroom"}]
    (sentence,) = unknown_consumers(fleet(), consumers)
    assert sentence.startswith("celery-mail@worker9 at 10.0.0.9 consumes in the virtual host newsroom")


def test_a_removed_program_is_named_although_its_host_is_known() -> None:
    (sentence,) = unknown_consumers(fleet(), [NODE | {"queue": "celery-old@worker1.celery.pidbox"}])
    assert "celery-old@worker1 at 10.0.0.3" in sentence


def test_consumers_are_known_by_the_address_of_their_connection() -> None:
    consumers = consumers_of(
        "v", [{"queue_name": "q", "channel_pid": "c1"}, {"queue_name": "r", "channel_pid": "gone"}],
        [{"pid": "c1", "connection": "k1"}], [{"pid": "k1", "peer_host": [10, 0, 0, 9]}],
    )  # fmt: skip
    assert consumers == [{"vhost": "v", "queue": "q", "address": "10.0.0.9"}, {"vhost": "v", "queue": "r", "address": ""}]
    assert address([0, 0, 0, 0, 0, 0, 0, 1]) == "::1"


def test_the_playbook_prints_the_plan_of_a_fleet_that_does_not_fit(tmp_path) -> None:
    report = tmp_path / "plan.json"
    row = {
        "vars": {"postgresql": {"postgresql_max_connections": 60}},
        "play": ("playbooks/plan.yml", "--extra-vars", f"topology_plan_file={report}"),
    }
    run = run_rows({"too small": row}, tmp_path)["too small"]
    assert run.returncode != 0, run.output
    assert "THIS FLEET DOES NOT FIT" in run.output and "connections to PostgreSQL" in run.output, run.output
    assert "changed=0" in run.output and "changed=1" not in run.output
    data = json.loads(report.read_text())
    assert data["workers_that_fit"] == 0 and "may open 85 connections to db1, which grants 57" in data["stopped_by"]
