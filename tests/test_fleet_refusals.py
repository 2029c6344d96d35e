"""Each thing that cannot work is refused, with a sentence that names what to edit."""

from dataclasses import replace
from itertools import pairwise

import pytest
from ansible_collections.grunnfjell.platform.plugins.plugin_utils.fleet.model import Fleet, Host
from ansible_collections.grunnfjell.platform.plugins.plugin_utils.refusals import refusals

SUPPORTED = {"Debian": ["12", "13"]}
APART = [["postgresql", "celery_worker"], ["producer", "celery_worker"]]
ROLES = {
    "rabbitmq": ("rabbitmq",),
    "postgresql": ("postgresql",),
    "pgbouncer": ("pgbouncer",),
    "celery_worker": ("celery_workers",),
    "producer": ("producers",),
}
GROUPS = frozenset({"newsroom", *(group for groups in ROLES.values() for group in groups)})


def host(name: str, *roles: str, applications: tuple[str, ...] = (), **inputs: object) -> Host:
    number = sum(map(ord, name)) % 256
    return Host(name, frozenset(roles), applications, f"10.0.{number}.1", f"id-{name}", "Debian", "13", dict(inputs))


def fleet(**changes: Host | None) -> Fleet:
    pool = {
        "pgbouncer_pools": 1,
        "pgbouncer_default_pool_size": 20,
        "pgbouncer_reserve_pool_size": 5,
        "pgbouncer_auth_max_user_connections": 2,
    }
    hosts = {
        "broker1": host("broker1", "rabbitmq"),
        "db1": host("db1", "postgresql", postgresql_max_connections=100, postgresql_superuser_reserved_connections=3),
        "worker1": host("worker1", "celery_worker", "pgbouncer", applications=("newsroom",), **pool),
        "worker2": host("worker2", "celery_worker", "pgbouncer", applications=("newsroom",), **pool),
        "web1": host("web1", "producer", "pgbouncer", applications=("newsroom",), **pool),
    } | changes
    return Fleet({name: one for name, one in hosts.items() if one}, ROLES, ("newsroom",), GROUPS)


def refused(**changes: Host | None) -> list[str]:
    return refusals(fleet(**changes), SUPPORTED, APART)


def test_a_fleet_that_works_is_not_refused() -> None:
    assert refused() == []


def test_an_empty_group_is_named() -> None:
    (sentence,) = refused(broker1=None)
    assert "The group 'rabbitmq' has no host" in sentence and "topology_roles" in sentence


@pytest.mark.parametrize(("distribution", "release"), [("Debian", "11"), ("Ubuntu", "24")])
def test_an_unsupported_system_is_named(distribution: str, release: str) -> None:
    (sentence,) = refused(db1=replace(fleet().hosts["db1"], distribution=distribution, release=release))
    assert f"db1 runs {distribution} {release}" in sentence and "Debian 12, Debian 13" in sentence


def test_a_host_that_was_not_measured_is_not_judged_by_its_system() -> None:
    assert refused(db1=replace(fleet().hosts["db1"], distribution=None, release=None, machine_id=None)) == []


def test_a_worker_on_a_database_host_is_refused_by_name() -> None:
    both = replace(fleet().hosts["db1"], roles=frozenset({"postgresql", "celery_worker"}), applications=("newsroom",))
    (sentence,) = refused(db1=both)
    assert sentence.startswith("db1 is in both groups; 'postgresql' and 'celery_workers' must not share a machine")


def test_a_worker_on_a_database_host_is_refused_by_address() -> None:
    sentences = refused(worker2=replace(fleet().hosts["worker2"], address=fleet().hosts["db1"].address))
    assert any(s.startswith("db1 and worker2 have the address") and "must not share a machine" in s for s in sentences)


def test_a_worker_on_a_database_host_is_refused_by_machine_identity() -> None:
    sentences = refused(worker2=replace(fleet().hosts["worker2"], machine_id="id-db1"))
    assert any(s.startswith("db1 and worker2 have the machine identity id-db1") for s in sentences)


def test_two_names_for_one_machine_are_refused() -> None:
    sentences = refused(worker2=replace(fleet().hosts["worker2"], machine_id="id-worker1"))
    assert any("worker1 and worker2 are one machine" in s for s in sentences)


def test_an_application_without_a_worker_is_refused() -> None:
    idle = {name: replace(fleet().hosts[name], applications=()) for name in ("worker1", "worker2")}
    sentences = refused(**idle)
    assert any("The application 'newsroom' has no worker" in s for s in sentences)
    assert any("worker1 belongs to none of the applications" in s for s in sentences)


def test_a_second_beat_is_refused() -> None:
    beats = {
        name: replace(fleet().hosts[name], inputs={**fleet().hosts[name].inputs, "celery_worker_beat": True})
        for name in ("worker1", "worker2")
    }
    (sentence,) = refused(**beats)
    assert "has 2 beats (worker1, worker2)" in sentence
    assert refused(worker1=beats["worker1"]) == []


def test_a_drained_worker_gives_its_connections_back_and_leaves_one_that_works() -> None:
    drained = {name: with_inputs(name, celery_worker_state="drained") for name in ("worker1", "worker2")}
    server = with_inputs("db1", postgresql_max_connections=57)
    (sentence,) = refused(db1=server)
    assert "may open 81 connections" in sentence
    assert refused(worker1=drained["worker1"], db1=server) == []
    (sentence,) = refused(**drained)
    assert "All 2 workers of the application 'newsroom' are drained (worker1, worker2)" in sentence


def test_a_drained_beat_is_refused() -> None:
    (sentence,) = refused(worker1=with_inputs("worker1", celery_worker_state="drained", celery_worker_beat=True))
    assert "worker1 is drained, but runs the beat" in sentence


@pytest.mark.parametrize(("batch", "works"), [([1, "25%"], True), (["100%"], True), (["0"], False), (["most"], False)])
def test_a_batch_that_nobody_can_read_is_refused(batch: list, works: bool) -> None:
    sentences = refused(worker1=with_inputs("worker1", celery_worker_batch=batch))
    assert sentences == [] if works else "celery_worker_batch holds" in sentences[0]


def test_pools_that_exceed_the_server_are_refused_with_both_numbers() -> None:
    def server(connections: int) -> Host:
        return host("db1", "postgresql", postgresql_max_connections=connections, postgresql_superuser_reserved_connections=3)

    (sentence,) = refused(db1=server(83))
    assert "may open 81 connections to db1, which grants 80" in sentence
    assert refused(db1=server(84)) == []


def with_inputs(name: str, **inputs: object) -> Host:
    one = fleet().hosts[name]
    return replace(one, inputs={**one.inputs, **inputs})


TIMERS = {
    "pgbouncer_query_wait_timeout": 60,
    "application_soft_time_limit": 510,
    "application_time_limit": 540,
    "celery_worker_stopwaitsecs": 600,
    "supervisor_timeout_stop_sec": 660,
}


@pytest.mark.parametrize(("shorter", "longer"), list(pairwise(TIMERS)))
def test_timers_out_of_order_are_refused_with_both(shorter: str, longer: str) -> None:
    assert refused(worker1=with_inputs("worker1", **TIMERS)) == []
    sentences = refused(worker1=with_inputs("worker1", **{**TIMERS, shorter: TIMERS[longer]}))
    assert any(f"{shorter} is {TIMERS[longer]} s and {longer} is {TIMERS[longer]} s" in s for s in sentences)


def test_a_task_that_outlasts_the_broker_s_patience_is_refused() -> None:
    broker = with_inputs("broker1", rabbitmq_consumer_timeout=540_000)
    (sentence,) = refused(broker1=broker, worker1=with_inputs("worker1", **TIMERS))
    assert "application_time_limit is 540 s, but broker1 takes a job back" in sentence


@pytest.mark.parametrize(
    ("programs", "sentence"),
    [
        ([{"name": "celery-worker"}, {"name": "celery-worker"}], "names 'celery-worker' twice"),
        ([{"name": "celery-worker", "queues": ["a", "a"]}], "names the queue 'a' twice"),
        ([{"name": "celery-worker", "concurrency": 0}], "has the concurrency 0, but needs at least 1"),
    ],
)
def test_programs_that_cannot_run_are_refused(programs: list, sentence: str) -> None:
    (refusal,) = refused(worker1=with_inputs("worker1", celery_worker_programs=programs))
    assert sentence in refusal


@pytest.mark.parametrize(
    ("arguments", "refusals"),
    [
        (["-E", "--max-tasks-per-child=100", "--pool=prefork", "--without-heartbeat", "-Ofair"], 0),
        (["--time-limit=540", "--soft-time-limit", "30"], 0),
        (["--time-limit", "541"], 1),
        (["--soft-time-limit=0"], 1),
        (["--soft-time-limit=ever"], 1),
        (["-Psolo"], 1),
        (["-EP", "gevent"], 1),
        (["--pool=eventlet", "--purge", "-Qmail", "-X", "shop", "-n", "me@%h", "-D", "-B"], 7),
    ],
)
def test_arguments_that_outweigh_the_promise_are_refused_unless_waived(arguments: list, refusals: int) -> None:
    """Review finding 6."""
    inputs = {**TIMERS, "celery_worker_programs": [{"name": "celery-worker", "arguments": arguments}]}
    assert len(refused(worker1=with_inputs("worker1", **inputs))) == refusals
    waivers = dict.fromkeys(("worker_pool", "task_time_limit", "task_soft_time_limit"), "it mails")
    if refusals == 1:
        assert refused(worker1=with_inputs("worker1", **inputs, application_waivers=waivers)) == []


@pytest.mark.parametrize(
    ("programs", "beat", "collide"),
    [
        (["celery-mail", "mail"], False, True),
        (["mail", "mail.err"], False, True),
        (["beat"], True, True),
        (["beat"], False, False),
        (["celery-mail", "celery-sms"], True, False),
    ],
)
def test_two_programs_never_share_a_log(programs: list, beat: bool, collide: bool) -> None:
    declared = [{"name": name} for name in programs]
    sentences = refused(worker1=with_inputs("worker1", celery_worker_programs=declared, celery_worker_beat=beat))
    assert len(sentences) == collide and all("would write to one log" in sentence for sentence in sentences), sentences


def test_a_queue_that_one_of_the_workers_consumes_is_enough() -> None:
    own = {"application_name": "newsroom", "celery_worker_programs": [{"name": "celery-worker"}]}
    routes = {"application_celery_settings": {"task_routes": [{"a.*": {"queue": "heavy"}, "b": "newsroom"}]}}
    web = with_inputs("web1", application_name="newsroom", **routes)
    one = with_inputs("worker1", **own)
    (sentence,) = refused(web1=web, worker1=one)
    assert "web1: application_celery_settings.task_routes sends jobs of 'newsroom' to the queue 'heavy'" in sentence
    heavy = with_inputs("worker2", application_name="newsroom", celery_worker_programs=[{"name": "heavy", "queues": ["heavy"]}])
    assert refused(web1=web, worker1=one, worker2=heavy) == []


def test_one_transport_option_takes_no_other_away() -> None:
    """Review finding 7. A number may be another; confirms may not go, unless somebody says why."""
    options = {"visibility_timeout": 3600, "max_retries": 5, "confirm_publish": True}
    assert refused(worker1=with_inputs("worker1", application_celery_settings={"broker_transport_options": options})) == []
    bare = {"application_celery_settings": {"broker_transport_options": {"confirm_publish": False}}}
    (sentence,) = refused(worker1=with_inputs("worker1", **bare))
    assert "confirm_publish" in sentence
    assert refused(worker1=with_inputs("worker1", **bare, application_waivers={"broker_transport_options": "metrics only"})) == []


@pytest.mark.parametrize(
    ("inputs", "sentence"),
    [
        ({"celery_worker_programs": [{"name": "mail:eu"}]}, "names 'mail:eu'"),
        ({"celery_worker_programs": [{"name": "mail/eu"}]}, "names 'mail/eu'"),
        ({"celery_worker_programs": [{"name": "mail eu"}]}, "names 'mail eu'"),
        ({"celery_worker_programs": [{"name": ""}]}, "names ''"),
        ({"celery_worker_programs": [{"name": "mail", "queues": ["a,b"]}]}, "the program 'mail' names the queue 'a,b'"),
        ({"celery_worker_queues": ["a b"]}, "celery_worker_queues names the queue 'a b'"),
        ({"celery_worker_queues": [""]}, "celery_worker_queues names the queue ''"),
        ({"celery_worker_logfile_maxbytes": "50MiB"}, "celery_worker_logfile_maxbytes is '50MiB'"),
        ({"celery_worker_logfile_maxbytes": "50 MB"}, "celery_worker_logfile_maxbytes is '50 MB'"),
        ({"celery_worker_logfile_maxbytes": "-1"}, "celery_worker_logfile_maxbytes is '-1'"),
    ],
)
def test_values_that_supervisord_or_celery_refuse_are_refused_first(inputs: dict, sentence: str) -> None:
    """Review finding 8."""
    (refusal,) = refused(worker1=with_inputs("worker1", **inputs))
    assert sentence in refusal


@pytest.mark.parametrize("size", ["50MB", "50mb", "1GB", "512KB", "0", 1048576])
def test_sizes_that_supervisord_takes_are_let_through(size: object) -> None:
    """Review finding 8."""
    assert refused(worker1=with_inputs("worker1", celery_worker_logfile_maxbytes=size)) == []


@pytest.mark.parametrize(
    ("app", "refusals"), [("newsroom.web", 1), ("newsroom.web:", 1), ("newsroom.web:app", 0), ("web:make()", 0)]
)
def test_a_web_application_is_a_module_and_its_callable(app: str, refusals: int) -> None:
    assert len(refused(web1=with_inputs("web1", producer_wsgi_app=app))) == refusals


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
    found = [sentence for sentence in refused(**{name: with_inputs(name, **inputs)}) if "may open ports below 1024" in sentence]
    assert len(found) == refusals


def test_a_waiver_without_a_reason_is_refused() -> None:
    (sentence,) = refused(worker1=with_inputs("worker1", application_waivers={"task_acks_late": ""}))
    assert "waives task_acks_late without a reason" in sentence


def test_a_setting_that_breaks_the_promise_is_refused_unless_waived() -> None:
    one = replace(
        with_inputs("worker1", application_celery_settings={"task_acks_late": False}), promises=frozenset({"task_acks_late"})
    )
    (sentence,) = refused(worker1=one)
    assert "application_celery_settings sets task_acks_late" in sentence
    waived = replace(one, inputs={**one.inputs, "application_waivers": {"task_acks_late": "sends mail"}})
    assert refused(worker1=waived) == []


def measured(name: str, **found: object) -> Host:
    return replace(fleet().hosts[name], measured=found)


@pytest.mark.parametrize(("offset", "refusals"), [(5.0, 0), (-5.0, 0), (5.1, 1), (-5.1, 1), (None, 0)])
def test_a_clock_may_be_off_by_its_limit(offset: float | None, refusals: int) -> None:
    one = replace(measured("web1", clock_offset_seconds=offset), inputs={"topology_clock_offset_max": 5})
    assert len(refused(web1=one)) == refusals


LISTENERS = {
    "ours after an earlier run": ("10.0.0.9", 5432, "postgres", "postgresql@17-main.service", 0),
    "somebody else's": ("10.0.0.9", 5432, "nginx", "nginx.service", 1),
    "somebody else's on every address": ("::", 5432, "nginx", "nginx.service", 1),
    "somebody else's on another address": ("10.0.0.10", 5432, "nginx", "nginx.service", 0),
    "somebody else's on another port": ("10.0.0.9", 5433, "nginx", "nginx.service", 0),
    "somebody's whom this account may not see": ("10.0.0.9", 5432, "", "", 1),
}


@pytest.mark.parametrize("case", LISTENERS)
def test_a_port_is_taken_by_others_only(case: str) -> None:
    address, port, program, unit, refusals = LISTENERS[case]
    listening = [{"address": address, "port": port, "program": program, "unit": unit}]
    server = replace(
        host("db1", "postgresql", postgresql_listen_addresses=["10.0.0.9"], postgresql_port=5432),
        measured={"listening": listening},
    )
    assert len(refused(db1=server)) == refusals


@pytest.mark.parametrize(("user", "refusals"), [("root", 0), ("www-data", 1)])
def test_a_process_that_calls_itself_systemd_takes_a_port_all_the_same(user: str, refusals: int) -> None:
    """A process chooses its name, and not its account."""
    listening = [{"address": "10.0.97.1", "port": 5671, "program": "systemd", "unit": "", "user": user}]
    broker = replace(host("broker1", "rabbitmq", rabbitmq_listeners_ssl=["10.0.97.1:5671"]), measured={"listening": listening})
    assert len([each for each in refused(broker1=broker) if "wants port" in each]) == refusals


@pytest.mark.parametrize(("producer", "worker", "refusals"), [("a", "a", 0), ("b", "b", 0), ("a", "b", 1)])
def test_two_brokers_are_let_through_while_each_that_takes_jobs_has_a_worker(producer: str, worker: str, refusals: int) -> None:
    """The way out of a broker of an older series: a second one takes the new work while workers empty the first."""
    brokers = {
        "a": host("a", "rabbitmq", rabbitmq_listeners_ssl=["10.0.97.1:5671"]),
        "b": host("b", "rabbitmq", rabbitmq_listeners_ssl=["10.0.98.1:5671"]),
    }

    def bound(name: str, broker: str) -> Host:
        return with_inputs(name, application_broker_hosts=[brokers[broker].address], application_broker_port=5671)

    clients = {"web1": bound("web1", producer), "worker1": bound("worker1", worker), "worker2": bound("worker2", worker)}
    sentences = refused(broker1=None, **brokers, **clients)
    assert len(sentences) == refusals, sentences


def test_a_worker_that_only_beat_feeds_needs_no_producer() -> None:
    idle = replace(fleet().hosts["web1"], roles=frozenset({"pgbouncer"}), applications=())
    other = host("web2", "producer", applications=("newsroom", "shop"))
    assert any("has no producer and no beat" in s for s in refused(web1=idle, web2=replace(other, applications=())))
    assert not any(
        "has no producer" in s
        for s in refused(web1=idle, web2=replace(other, applications=()), worker1=with_inputs("worker1", celery_worker_beat=True))
    )


def entered(**controllers: str) -> list[str]:
    """What is refused where the hosts see the control machine connect from these addresses; web1 is 10.0.<n>.1."""
    hosts = {
        name: replace(one, measured={"controller": controllers[name]}, inputs=one.inputs | {"host_ssh_tcp_forwarding": False})
        for name, one in fleet().hosts.items()
        if name in controllers
    }
    return refused(**hosts)


def test_a_jump_host_that_may_not_forward_is_named() -> None:
    """Review finding 11."""
    web1 = str(fleet().hosts["web1"].address)
    (sentence,) = entered(db1=web1, web1="198.51.100.7")
    assert "web1: host_ssh_tcp_forwarding is false" in sentence and f"reaches db1 through web1 ({web1})" in sentence
    assert "Set host_ssh_tcp_forwarding: true for web1" in sentence


def test_a_run_that_is_started_on_a_host_of_the_fleet_needs_no_forwarding() -> None:
    web1 = str(fleet().hosts["web1"].address)
    assert entered(db1=web1, web1="127.0.0.1") == entered(db1=web1, web1=web1) == entered(db1="198.51.100.7") == []


@pytest.mark.parametrize(("ports", "port", "said"), [(None, 2222, 0), ([2222], 2222, 0), ([22], 2222, 1), ([22], 22, 0)])
def test_the_administrators_port_is_that_of_ssh(ports: list[int] | None, port: int, said: int) -> None:
    """Review finding 34: another port works; one that the place does not open is refused."""
    site = {"name": "ops", "kind": "administrators", "addresses": ["198.51.100.0/24"], "country": "NO"} | (
        {"ports": ports} if ports else {}
    )
    db1 = fleet().hosts["db1"]
    one = replace(
        db1,
        roles=db1.roles | {"firewall"},
        inputs=db1.inputs | {"topology_places": [site]},
        measured={"controller": "198.51.100.7", "ssh_port": port},
    )
    sentences = [sentence for sentence in refused(db1=one) if "its sshd listens on port 2222" in sentence]
    assert len(sentences) == said
