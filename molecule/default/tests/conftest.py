"""The fleet under test, a client of its producer, and the hosts and logins that intruders use."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from intrusion import attempt, run_on, tls_of
from jobs import LONG, SHORT

from lab.demo import fleet, traffic, videos
from lab.demo.fleet import Fleet, Host
from lab.exposure import capture
from lab.exposure.intruders import Answer
from lab.exposure.points import Point, controller, host_points, stranger

PASSFILE = "/run/grunnfjell-intruder-pgpass"


@pytest.fixture(scope="module")
def site(inventory) -> Fleet:
    return fleet.read(inventory)


@pytest.fixture(scope="module")
def films(tmp_path_factory) -> dict[videos.Video, Path]:
    return videos.make((LONG, SHORT), tmp_path_factory.mktemp("films"))


@pytest.fixture(scope="module")
def upload(site, films) -> Callable[[videos.Video], traffic.Answer]:
    producer = site.group("producers")[0]
    return lambda video: traffic.post(producer.url, films[video])


@pytest.fixture(scope="module")
def points(site: Fleet) -> Iterator[dict[str, Point]]:
    """Where attempts come from: each host, the control machine, and a network outside the fleet."""
    inside = host_points({host.name: host.address for host in site.hosts})
    with stranger() as outside:
        yield {point.name: point for point in (*inside, controller(), outside)}


@pytest.fixture(scope="module")
def worker(site: Fleet) -> Host:
    return site.group("celery_workers")[0]


@pytest.fixture(scope="module")
def broker(site: Fleet) -> Host:
    return site.group("rabbitmq")[0]


@pytest.fixture(scope="module")
def database(site: Fleet) -> Host:
    return site.group("postgresql")[0]


@pytest.fixture(scope="module")
def vault(inventory) -> dict[str, str]:
    return capture.vault(inventory)


@pytest.fixture(scope="module")
def worker_inputs(worker: Host, fleet_inputs) -> dict[str, Any]:
    return fleet_inputs[worker.name]


@pytest.fixture(scope="module")
def login(worker_inputs) -> dict[str, str]:
    """The login of the application's programs to the broker."""
    name = worker_inputs["application_name"]
    user = worker_inputs.get("application_broker_user") or name
    return {"user": user, "password": worker_inputs["application_broker_password"], "vhost": name}


@pytest.fixture(scope="module")
def amqps(broker: Host, fleet_inputs) -> dict[str, object]:
    """Address and port of the broker."""
    address, _, port = fleet_inputs[broker.name]["rabbitmq_listeners_ssl"][0].rpartition(":")
    return {"address": address, "port": int(port)}


@pytest.fixture(scope="module")
def tls(authority, worker: Host) -> dict[str, str]:
    """The trust and the certificate of a client of the fleet."""
    return tls_of(authority, authority.issue(worker.name))


@pytest.fixture(scope="module")
def amqp_login(points, worker, amqps, tls, login) -> Callable[..., Answer]:
    """A login to the broker from the worker's host, as its programs log in, with overrides."""
    return lambda **overrides: attempt(points[worker.name], "amqp", **(amqps | login | {"tls": tls} | overrides))


@pytest.fixture(scope="module")
def role(worker_inputs) -> str:
    """The database role of the application's programs."""
    return worker_inputs.get("application_database_user") or worker_inputs["application_name"]


@pytest.fixture(scope="module")
def psql(worker: Host, worker_inputs) -> Iterator[Callable[..., Answer]]:
    """psql as a process of the worker; the password is in a file that the process can read."""
    users = (worker_inputs["application_user"], "postgres")
    for user in users:
        content = f"*:*:*:*:{worker_inputs['application_database_password']}\n"
        worker.run(["install", "-o", user, "-m", "0600", "/dev/stdin", f"{PASSFILE}-{user}"], stdin=content)

    def run(parameters: str, user: str = users[0]) -> Answer:
        sql = "SELECT current_user || ' in ' || current_database()"
        psql = f"psql -XqAtw {shlex.quote(parameters)} -c {shlex.quote(sql)}"
        return run_on(worker, f"cd /; runuser -u {user} -- env PGPASSFILE={PASSFILE}-{user} PGCONNECT_TIMEOUT=6 {psql}")

    yield run
    worker.run(["rm", "-f", *(f"{PASSFILE}-{user}" for user in users)])


@pytest.fixture(scope="module")
def through_bouncer(worker_inputs, role: str) -> Callable[[str], str]:
    """libpq's parameters for a database through the worker's PgBouncer."""
    place = f"host={worker_inputs['application_database_host']} port={worker_inputs['application_database_port']}"
    return lambda name: f"{place} user={role} dbname={name} sslmode=prefer"
