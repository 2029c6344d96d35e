"""For any fleet: what the plan allows never exceeds a server's limit, and one more of anything that it calls full is refused.

The sums are made anew here, from the inputs alone, so that a part that the account forgets is missed.
"""

from dataclasses import replace

from ansible_collections.grunnfjell.platform.plugins.plugin_utils.capacity.line import Line
from ansible_collections.grunnfjell.platform.plugins.plugin_utils.capacity.room import does_not_fit, lines, rooms, with_more
from ansible_collections.grunnfjell.platform.plugins.plugin_utils.capacity.timers import timers_out_of_order
from ansible_collections.grunnfjell.platform.plugins.plugin_utils.fleet.model import Fleet, Host
from ansible_collections.grunnfjell.platform.plugins.plugin_utils.fleet.units import MIB
from ansible_collections.grunnfjell.platform.plugins.plugin_utils.refusals import refusals
from ansible_collections.grunnfjell.platform.plugins.plugin_utils.sizing.postgresql import connections_that_fit, postgresql_sizes
from hypothesis import assume, given
from hypothesis import strategies as st

GIB = 1024 * MIB
ROLES = {
    "rabbitmq": ("rabbitmq",),
    "postgresql": ("postgresql",),
    "pgbouncer": ("pgbouncer",),
    "celery_worker": ("celery_workers",),
    "producer": ("producers",),
}
APPLICATIONS = ("films", "mails")
SUPPORTED = {"Debian": ["13"]}


def refused(fleet: Fleet) -> list[str]:
    """What topology refuses for its size; these bare fleets lack what its other rules ask for."""
    sizes = {*does_not_fit(fleet), *timers_out_of_order(fleet)}
    return [sentence for sentence in refusals(fleet, SUPPORTED, []) if sentence in sizes]


def host(name: str, number: int, roles: set[str], applications: tuple[str, ...], memory: int, **inputs: object) -> Host:
    resources = {"memory_bytes": memory, "cpus": 2, "descriptors_max": 65536}
    return Host(name, frozenset(roles), applications, f"10.0.0.{number}", name, "Debian", "13", inputs, measured=resources)


@st.composite
def fleets(draw: st.DrawFn) -> Fleet:
    """Fleets of one or two applications, with PgBouncer beside the clients or at the database, some of which fit."""
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
        host(
            "broker", 1, {"rabbitmq"}, (), 2 * GIB,
            rabbitmq_nofile=draw(st.integers(200, 3000)),
            rabbitmq_memory_bytes=2 * GIB,
            rabbitmq_vm_memory_high_watermark=0.7,
            rabbitmq_raft_wal_max_size_bytes=64 * MIB,
        ),
        host(
            "db", 2, {"postgresql"} | ({"pgbouncer"} if central else set()), (), memory,
            **sized, **(pool if central else {}),
            pgbouncer_pools=used,
            postgresql_max_connections=connections,
            postgresql_superuser_reserved_connections=3,
        ),
    ]  # fmt: skip
    place = {"application_database_host": "10.0.0.2" if central else "127.0.0.1", "application_database_port": 6432}
    beside = {} if central else {**pool, "pgbouncer_pools": 1}
    more = set() if central else {"pgbouncer"}
    for application in APPLICATIONS[:used]:
        worker = {
            "celery_worker_programs": [{"name": f"p{index}"} for index in range(draw(st.integers(1, 2)))],
            "celery_worker_concurrency": draw(st.integers(1, 16)),
            "celery_worker_process_memory_bytes": draw(st.sampled_from([32, 64, 128])) * MIB,
        }
        for index in range(draw(st.integers(1, 4))):
            name, size = f"{application}-w{index}", draw(st.integers(1, 4)) * GIB
            hosts.append(host(name, 10 + len(hosts), {"celery_worker"} | more, (application,), size, **worker, **place, **beside))
        web = {"producer_workers": draw(st.integers(1, 4)), "producer_threads": draw(st.integers(1, 16))}
        web["producer_process_memory_bytes"] = 96 * MIB
        name = f"{application}-web"
        hosts.append(host(name, 10 + len(hosts), {"producer"} | more, (application,), 2 * GIB, **web, **place, **beside))
    return Fleet({one.name: one for one in hosts}, ROLES, APPLICATIONS[:used])


def within_limits(fleet: Fleet) -> None:
    """Each server's limit against what the inputs let its clients take, summed up without the account."""
    tasks = {
        one.name: len(one.inputs.get("celery_worker_programs", [])) * one.inputs.get("celery_worker_concurrency", 0)
        for one in fleet.hosts.values()
    }
    threads = {n: h.inputs.get("producer_workers", 0) * h.inputs.get("producer_threads", 0) for n, h in fleet.hosts.items()}
    backends = 0
    for bouncer in fleet.with_role("pgbouncer"):
        told = bouncer.inputs
        near = fleet.hosts if "postgresql" in bouncer.roles else [bouncer.name]
        assert sum(tasks[name] + threads[name] for name in near) <= told["pgbouncer_max_client_conn"]
        pool = told["pgbouncer_default_pool_size"] + told["pgbouncer_reserve_pool_size"]
        backends += told["pgbouncer_pools"] * (pool + told["pgbouncer_auth_max_user_connections"])
    database = fleet.hosts["db"].inputs
    assert backends <= database["postgresql_max_connections"] - database["postgresql_superuser_reserved_connections"]
    broker = fleet.hosts["broker"].inputs
    programs = sum(len(one.inputs.get("celery_worker_programs", [])) for one in fleet.hosts.values())
    assert 3 * programs + sum(tasks.values()) <= broker["rabbitmq_nofile"]
    for one in fleet.with_role("celery_worker"):
        assert tasks[one.name] * one.inputs["celery_worker_process_memory_bytes"] <= one.measured["memory_bytes"]


@given(fleets())
def test_what_the_plan_allows_is_within_every_limit_and_not_refused(fleet: Fleet) -> None:
    assume(not refused(fleet))
    within_limits(fleet)
    for room in rooms(fleet):
        assert room.workers is not None
        full = with_more(fleet, fleet.hosts[room.like], min(room.workers, 40))
        within_limits(full)
        assert refused(full) == []


@given(fleets())
def test_one_worker_more_than_the_plan_allows_is_refused_by_what_it_named(fleet: Fleet) -> None:
    assume(not refused(fleet))
    for room in rooms(fleet):
        assume(room.workers <= 40)
        over = with_more(fleet, fleet.hosts[room.like], room.workers + 1)
        (named,) = [line for line in lines(over) if line.name == room.stopped_by.name]
        assert named.left < 0 and named.refusal in refused(over)


@given(fleets())
def test_a_fleet_that_is_over_has_room_for_nobody(fleet: Fleet) -> None:
    assume(refused(fleet))
    assert list(does_not_fit(fleet)) == refused(fleet)


# What makes the limit of a line as small as what is used of it, and then one less. The pairs' limit is a count of pools.
SHRINK = {
    "clients of PgBouncer": ("pgbouncer_max_client_conn", 0),
    "connections to PostgreSQL": ("postgresql_max_connections", 3),
}


def shrunk(fleet: Fleet, line: Line, by: int) -> Fleet:
    one = fleet.hosts[line.host]
    if line.what == "memory":
        one = replace(one, measured={**one.measured, "memory_bytes": line.used - by})
    elif line.what == "descriptors of pgbouncer":
        one = replace(one, measured={**one.measured, "descriptors_max": line.used - by})
    else:
        name, more = SHRINK[line.what]
        one = replace(one, inputs={**one.inputs, name: line.used + more - by})
    return replace(fleet, hosts={**fleet.hosts, one.name: one})


@given(fleets(), st.data())
def test_what_is_full_takes_no_more(fleet: Fleet, data: st.DataObject) -> None:
    assume(not refused(fleet))
    kinds = {*SHRINK, "memory", "descriptors of pgbouncer"}
    # The system's part of a small host is a share of it, so that shrinking the host would shrink what is used.
    choice = [line for line in lines(fleet) if line.what in kinds and line.used and (line.what != "memory" or line.used > GIB)]
    line = data.draw(st.sampled_from(choice))
    full = shrunk(fleet, line, 0)
    # A limit that shrinks may take with it what is counted by it, as memory for clients that may no longer come.
    assert next(each for each in lines(full) if each.name == line.name).left == 0
    assert not [each for each in lines(full) if each.name == line.name and each.refusal in refused(full)]
    over = shrunk(fleet, line, 1)
    (named,) = [each for each in lines(over) if each.name == line.name]
    assert named.left == -1 and named.refusal in refused(over)
