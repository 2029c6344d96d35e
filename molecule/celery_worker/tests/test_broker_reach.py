"""An intruder in an application cannot leave its virtual host, command another application or change anything of it.

The attempts use the code and the login of the application's programs. Each has a control, within the application or for the
other one, to show that it would work.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Iterator

import pytest
from deadline import until

testinfra_hosts = ["ansible://rabbitmq"]
pytestmark = [pytest.mark.once, pytest.mark.disruptive, pytest.mark.scenario]

FOLDER = "/var/lib/grunnfjell-reach-shop"
OTHER, PASSWORD, WORKER = "shop", "of-the-shop", "slow@shop"
REFUSED = "refused"

# Commands of Celery's remote control to one worker. An empty virtual host or login is the application's.
CONTROL = """
import json, sys
from urllib.parse import urlsplit
import grunnfjell_settings as conf
from celery import Celery
vhost, user, password, worker, *commands = sys.argv[1:]
parts = urlsplit(conf.broker_url.split(";")[0])
arguments = {"rate_limit": {"task_name": "celery.chord", "rate_limit": "1/h"}, "pool_grow": {"n": 1}}
app = Celery("reach")
app.conf.broker_url  # reads the settings: from here on an assignment is the last word
login = f"{user or parts.username}:{password or parts.password}"
app.conf.broker_url = f"pyamqp://{login}@{parts.hostname}:{parts.port}/{vhost or parts.path[1:]}"
answers = {}
try:
    with app.connection() as connection:
        connection.connect()
    for command in commands:
        options = {"arguments": arguments.get(command, {}), "destination": [worker], "reply": True, "timeout": 3}
        answers[command] = app.control.broadcast(command, **options)
except Exception as error:
    answers["refused"] = f"{type(error).__name__}: {error}"
print(json.dumps(answers, default=str))
"""
COMMANDS = ("ping", "rate_limit", "pool_grow")

# Messages by the application's login in its own virtual host.
PUBLISH = """
import json, sys
import grunnfjell_settings as conf
from kombu import Connection
outcomes = {}
for aim, how in json.loads(sys.argv[1]).items():
    with Connection(conf.broker_url, ssl=conf.broker_use_ssl, transport_options={"confirm_publish": True}) as connection:
        try:
            connection.Producer().publish("{}", **how)
            outcomes[aim] = ""
        except Exception as error:
            outcomes[aim] = str(error)
print(json.dumps(outcomes))
"""
# The messages, and the words with which the broker refuses each.
MESSAGES = {
    "to its own queue": ({"exchange": "", "routing_key": "reach"}, ""),
    "to the other application's exchange": ({"exchange": OTHER, "routing_key": OTHER}, "no exchange"),
    "in the other application's name": ({"exchange": "", "routing_key": "reach", "user_id": OTHER}, "user_id"),
    "to the dead letters": ({"exchange": "dead_letters", "routing_key": ""}, "refused"),
}

# Queue names that a careless reader would run or render; each queue has a consumer.
NAMES = ("a\ttab", '"), os:cmd("touch /tmp/reach"), ("', "$(touch /tmp/reach)", "<script>alert(1)</script>", "{{ 7 * 7 }}")
CONSUME = """
import contextlib, json, sys
import grunnfjell_settings as conf
from kombu import Connection, Queue
with Connection(conf.broker_url, ssl=conf.broker_use_ssl) as connection:
    queues = [Queue(name, exclusive=True, durable=False, auto_delete=True) for name in json.loads(sys.argv[1])]
    with connection.Consumer(queues, callbacks=[print]):
        while True:
            with contextlib.suppress(TimeoutError):
                connection.drain_events()
"""

# The other application: its login and names, with the settings and the certificate of this host.
SHOP = f"""
from urllib.parse import urlsplit
import grunnfjell_settings as conf
from celery import Celery
parts = urlsplit(conf.broker_url.split(";")[0])
app = Celery("{OTHER}")
app.conf.broker_url  # reads the settings: from here on an assignment is the last word
broker = f"pyamqp://{OTHER}:{PASSWORD}@{{parts.hostname}}:{{parts.port}}/{OTHER}"
app.conf.update(broker_url=broker, task_default_queue="{OTHER}", task_default_exchange="{OTHER}")
"""
START = "celery --app=shop worker --concurrency=1 --hostname=slow@shop --without-gossip --without-mingle"


@pytest.fixture(scope="module")
def start(host, inputs) -> Callable[..., list[str]]:
    """The command that runs a program as the application, in its environment. With `unit`, in the background."""
    run, user = f"/opt/{inputs['application_name']}/current/run", inputs["application_user"]

    def command(*words: str, unit: str = "") -> str:
        prefix = f"systemd-run --quiet --collect --unit={unit} --uid={user} --property=WorkingDirectory={FOLDER}"
        return shlex.join([*(prefix if unit else f"runuser -u {user} --").split(), run, *words])

    return command


@pytest.fixture(scope="module")
def code(host, start) -> Callable[..., dict]:
    """What a program of the application prints as JSON."""
    return lambda program, *words: json.loads(host.check_output(start("python", "-c", program, *words)).splitlines()[-1])


@pytest.fixture(scope="module")
def other(host, inputs, start, code) -> Iterator[Callable[..., dict]]:
    """Another application with a live worker at the same broker. Returns what commands that worker with its login."""

    def commands(*names: str) -> dict:
        return code(CONTROL, OTHER, OTHER, PASSWORD, WORKER, *names)

    host.check_output(f"rabbitmqctl -q add_vhost {OTHER}")
    host.check_output(f"rabbitmqctl -q add_user {OTHER} {PASSWORD}")
    host.check_output(f"rabbitmqctl -q set_permissions -p {OTHER} {OTHER} '.*' '.*' '.*'")
    host.check_output("install -d -o %s %s", inputs["application_user"], FOLDER)
    host.check_output("printf %%s %s > %s", SHOP, f"{FOLDER}/shop.py")
    try:
        host.check_output(start(*START.split(), unit="grunnfjell-reach-shop"))
        until("an answer of the other application's worker", lambda: commands("ping").get("ping"))
        yield commands
    finally:
        host.run("systemctl stop grunnfjell-reach-shop")
        host.run(f"rabbitmqctl -q delete_user {OTHER}; rabbitmqctl -q delete_vhost {OTHER}; rm -r {FOLDER}")


def test_an_application_cannot_command_the_worker_of_another_one(hostname, code, other):
    """Celery's remote control: ping, rate limit, larger pool, shutdown."""
    own = code(CONTROL, "", "", "", f"slow@{hostname}", "ping")
    assert own["ping"], f"it cannot command even its own worker: {own}"
    theirs = other(*COMMANDS)
    assert list(theirs) == list(COMMANDS) and all(theirs.values()), f"the other application's worker does not obey it: {theirs}"
    everything = (*COMMANDS, "shutdown")
    assert code(CONTROL, "", "", "", WORKER, *everything) == {command: [] for command in everything}
    entered = code(CONTROL, OTHER, "", "", WORKER, *everything)
    assert list(entered) == [REFUSED] and "NotAllowed" in entered[REFUSED], entered
    guessed = code(CONTROL, OTHER, OTHER, "", WORKER, *everything)
    assert list(guessed) == [REFUSED] and "AccessRefused" in guessed[REFUSED], guessed
    assert other("ping")["ping"], "the other application's worker is gone"
    other("shutdown")
    assert other("ping") == {"ping": []}, "a shutdown by its owner has no effect"


def test_an_application_cannot_publish_to_another_one_or_in_its_name(code, other):
    outcomes = code(PUBLISH, json.dumps({aim: how for aim, (how, _) in MESSAGES.items()}))
    for aim, (_, words) in MESSAGES.items():
        assert words in outcomes[aim] if words else not outcomes[aim], f"{aim}: {outcomes[aim] or 'the broker took it'}"


def test_a_queue_name_is_never_run_as_code_or_rendered(host, inputs, start, other):
    vhost = inputs["application_name"]
    host.check_output(start("python", "-c", CONSUME, json.dumps(NAMES), unit="grunnfjell-reach-names"))
    try:

        def all_listed() -> bool:
            consumers = host.ansible("grunnfjell.platform.rabbitmq_consumers", check=False)["consumers"]
            return {consumer["queue"] for consumer in consumers if consumer["vhost"] == vhost} >= set(NAMES)

        until("a list of all queues by their names", all_listed)
        assert host.ansible("grunnfjell.platform.rabbitmq_dead_letters", check=False)["totals"][vhost] == 0
        assert not host.file("/tmp/reach").exists
    finally:
        host.run("systemctl stop grunnfjell-reach-names")
