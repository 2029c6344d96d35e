"""For any fleet: the plan never exceeds a server's limit, and refuses one more of anything that is full.

The sums are repeated here from the inputs, so a part that the plan forgets makes a difference.
"""

from dataclasses import replace

from ansible_collections.grunnfjell.platform.plugins.plugin_utils.capacity.line import Line
from ansible_collections.grunnfjell.platform.plugins.plugin_utils.capacity.room import does_not_fit, lines, rooms, with_more
from ansible_collections.grunnfjell.platform.plugins.plugin_utils.capacity.timers import timers_out_of_order
from ansible_collections.grunnfjell.platform.plugins.plugin_utils.fleet.model import Fleet, Host
from ansible_collections.grunnfjell.platform.plugins.plugin_utils.fleet.units import MIB
from ansible_collections.grunnfjell.platform.plugins.plugin_utils.refusals import refusals
from ansible_collections.grunnfjell.platform.plugins.plugin_utils.sizing.postgresql import connections_that_fit, postgresql_sizes
from fleets import ROLES, with_inputs
from hypothesis import assume, given
from hypothesis import strategies as st

GIB = 1024 * MIB
APPLICATIONS = ("films", "mails")
SUPPORTED = {"Debian": ["13"]}


def refused(fleet: Fleet) -> list[str]:
    """Refusals of sizes; these fleets lack what other rules require."""
    sizes = {*does_not_fit(fleet), *timers_out_of_order(fleet)}
    return [sentence for sentence in refusals(fleet, SUPPORTED, []) if sentence in sizes]


def make_host(name: str, number: int, roles: set[str], applications: tuple[str, ...], memory: int, **inputs: object) -> Host:
    resources = {"memory_bytes": memory, "cpus": 2, "descriptors_max": 65536}
    return Host(name, frozenset(roles), applications, f"10.0.0.{number}", name, "Debian", "13", inputs, measured=resources)


@st.composite
def fleets(draw: st.DrawFn) -> Fleet:
    """Fleets of one or two applications with PgBouncer at the clients or at the database. Some of them fit."""
    central = draw(st.booleans())
    sizes = st.integers(1, 40)
    pool = {
        "pgbouncer_max_client_conn": draw(st.integers(20, 2000)),
        "pgbouncer_default_pool_size": draw(sizes),
        "pgbouncer_reserve_pool_size": draw(st.integers(0, 10)),
        "pgbouncer_auth_max_user_connections": draw(st.integers(1, 3)),
        "pgbouncer_listen_port": 6432,
        "pgbouncer_databases": {"*": {"host": "10.0.0.2", "port": 5432}},
    }
    used = draw(st.integers(1, 2))
    memory = draw(st.integers(1, 16)) * GIB
    connections = draw(st.integers(30, min(600, connections_that_fit(memory))))
    sized = {f"postgresql_{key}": value for key, value in postgresql_sizes(memory, connections).items()}
    hosts = [
        make_host(
            "broker", 1, {"rabbitmq"}, (), 2 * GIB,
            rabbitmq_nofile=draw(st.integers(200, 3000)),
            rabbitmq_memory_bytes=2 * GIB,
            rabbitmq_vm_memory_high_watermark=0.7,
            rabbitmq_raft_wal_max_size_bytes=64 * MIB,
        ),
        make_host(
            "db", 2, {"postgresql"} | ({"pgbouncer"} if central else set()), (), memory,
            **sized, **(pool if central else {}),
            pgbouncer_pools=used,
            postgresql_max_connections=connections,
            postgresql_superuser_reserved_connections=3,
        ),
    ]  # fmt: skip
    database = {"application_database_host": "10.0.0.2" if central else "127.0.0.1", "application_database_port": 6432}
    client = database | ({} if central else {**pool, "pgbouncer_pools": 1})
    bouncer = set() if central else {"pgbouncer"}
    for application in APPLICATIONS[:used]:
        worker = {
            "celery_worker_programs": [{"name": f"p{index}"} for index in range(draw(st.integers(1, 2)))],
            "celery_worker_concurrency": draw(st.integers(1, 16)),
            "celery_worker_process_memory_bytes": draw(st.sampled_from([32, 64, 128])) * MIB,
            "celery_worker_main_memory_bytes": draw(st.sampled_from([64, 212])) * MIB,
        }
        for index in range(draw(st.integers(1, 4))):
            name, size = f"{application}-w{index}", draw(st.integers(1, 4)) * GIB
            hosts.append(make_host(name, 10 + len(hosts), {"celery_worker"} | bouncer, (application,), size, **worker, **client))
        web = {"producer_workers": draw(st.integers(1, 4)), "producer_threads": draw(st.integers(1, 16))}
        web["producer_process_memory_bytes"] = 96 * MIB
        web["producer_worker_connections"] = 512
        web["producer_programs"] = [{"name": f"s{number}", "workers": number} for number in range(2, draw(st.integers(2, 4)))]
        name = f"{application}-web"
        hosts.append(make_host(name, 10 + len(hosts), {"producer"} | bouncer, (application,), 2 * GIB, **web, **client))
    return Fleet({host.name: host for host in hosts}, ROLES, APPLICATIONS[:used])


def within_limits(fleet: Fleet) -> None:
    """Each server's limit against what the inputs let its clients take, summed up without the plan."""
    tasks = {
        host.name: len(host.inputs.get("celery_worker_programs", [])) * host.inputs.get("celery_worker_concurrency", 0)
        for host in fleet.hosts.values()
    }
    web = {
        name: host.inputs.get("producer_workers", 0)
        + sum(server["workers"] for server in host.inputs.get("producer_programs", []))
        for name, host in fleet.hosts.items()
    }
    threads = {name: web[name] * host.inputs.get("producer_threads", 0) for name, host in fleet.hosts.items()}
    backends = 0
    for bouncer in fleet.with_role("pgbouncer"):
        inputs = bouncer.inputs
        near = fleet.hosts if "postgresql" in bouncer.roles else [bouncer.name]
        assert sum(tasks[name] + threads[name] for name in near) <= inputs["pgbouncer_max_client_conn"]
        pool = inputs["pgbouncer_default_pool_size"] + inputs["pgbouncer_reserve_pool_size"]
        backends += inputs["pgbouncer_pools"] * (pool + inputs["pgbouncer_auth_max_user_connections"])
    database = fleet.hosts["db"].inputs
    assert backends <= database["postgresql_max_connections"] - database["postgresql_superuser_reserved_connections"]
    broker = fleet.hosts["broker"].inputs
    programs = sum(len(host.inputs.get("celery_worker_programs", [])) for host in fleet.hosts.values())
    assert 3 * programs + sum(tasks.values()) <= broker["rabbitmq_nofile"]
    for host in fleet.with_role("celery_worker"):
        assert tasks[host.name] * host.inputs["celery_worker_process_memory_bytes"] <= host.measured["memory_bytes"]


@given(fleets())
def test_every_planned_worker_is_within_all_limits_and_not_refused(fleet: Fleet) -> None:
    assume(not refused(fleet))
    within_limits(fleet)
    for room in rooms(fleet):
        assert room.workers is not None
        full = with_more(fleet, fleet.hosts[room.like], min(room.workers, 40))
        within_limits(full)
        assert refused(full) == []


@given(fleets())
def test_one_worker_more_is_refused_by_the_line_that_the_plan_named(fleet: Fleet) -> None:
    assume(not refused(fleet))
    for room in rooms(fleet):
        assume(room.workers <= 40)
        over = with_more(fleet, fleet.hosts[room.like], room.workers + 1)
        (named,) = [line for line in lines(over) if line.name == room.stopped_by.name]
        assert named.left < 0 and named.refusal in refused(over)


@given(fleets())
def test_a_fleet_over_its_limits_is_refused_line_by_line(fleet: Fleet) -> None:
    assume(refused(fleet))
    assert list(does_not_fit(fleet)) == refused(fleet)


# The input that sets a line's limit, and what the line leaves out of it. The pairs' limit is a count of pools.
SHRINK = {
    "clients of PgBouncer": ("pgbouncer_max_client_conn", 0),
    "connections to PostgreSQL": ("postgresql_max_connections", 3),
}
MEASURED = {"memory": "memory_bytes", "descriptors of pgbouncer": "descriptors_max"}


def shrunk(fleet: Fleet, line: Line, by: int) -> Fleet:
    host = fleet.hosts[line.host]
    if line.what in MEASURED:
        host = replace(host, measured={**host.measured, MEASURED[line.what]: line.used - by})
    else:
        name, reserved = SHRINK[line.what]
        host = with_inputs(host, **{name: line.used + reserved - by})
    return replace(fleet, hosts={**fleet.hosts, host.name: host})


@given(fleets(), st.data())
def test_a_full_line_refuses_one_more(fleet: Fleet, data: st.DataObject) -> None:
    assume(not refused(fleet))
    kinds = {*SHRINK, *MEASURED}
    # The system's part of a small host is a share of it, so shrinking the host would shrink what is used.
    choice = [line for line in lines(fleet) if line.what in kinds and line.used and (line.what != "memory" or line.used > GIB)]
    line = data.draw(st.sampled_from(choice))
    full = shrunk(fleet, line, 0)
    # A smaller limit may also lower what depends on it, as memory for clients that can no longer connect.
    assert next(after for after in lines(full) if after.name == line.name).left == 0
    assert not [after for after in lines(full) if after.name == line.name and after.refusal in refused(full)]
    over = shrunk(fleet, line, 1)
    (named,) = [after for after in lines(over) if after.name == line.name]
    assert named.left == -1 and named.refusal in refused(over)
