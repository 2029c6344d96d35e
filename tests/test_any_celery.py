"""The platform's settings lie over those of any Celery application, and take none away."""

from collections.abc import Callable
from pathlib import Path

import pytest
from celery_projects import DEFAULTS, OWN, PROJECTS, VERSIONS, run, write_project

OVERRULED = {
    "broker_url": "memory://platform",
    "broker_read_url": "memory://platform",
    "broker_transport_options": {"visibility_timeout": 3600, "confirm_publish": True},
    "task_acks_late": True,
    "task_reject_on_worker_lost": True,
    "task_acks_on_failure_or_timeout": False,
    "task_always_eager": False,
    "task_queue_max_priority": None,
    "worker_prefetch_multiplier": 1,
}
KEPT = {
    "task_default_queue": "default",
    "task_routes": {"shop.tasks.*": {"queue": "fast"}},
    "beat_schedule": {"hourly": {"task": "shop.tasks.order", "schedule": 3600}},
    "imports": ["shop.more"],
    "timezone": "Europe/Oslo",
}
OF_APP = "import json\nfrom shop.celery import app\nprint(json.dumps([app.conf[name] for name in {!r}]))"
SETTINGS = f"""
import json
from shop.celery import app
import shop.tasks
app.finalize()
names = {[*OVERRULED, *KEPT]!r}
table = app.conf.table(with_defaults=True, censored=False)
print(json.dumps({{
    "conf": {{name: getattr(app.conf, name) for name in names}},
    "table": {{name: table[name] for name in names if name != "broker_read_url"}},
    "route": app.amqp.router.route({{}}, "shop.tasks.order")["queue"].name,
    "task": app.tasks["shop.tasks.order"].acks_late,
}}))
"""
QUEUES = """
import json
from shop.celery import app
app.amqp.queues["unheard of"]
print(json.dumps({name: {
    "type": (queue.queue_arguments or {}).get("x-queue-type"), "exchange": [queue.exchange.name, queue.exchange.type],
    "key": queue.routing_key, "former": [getattr(getattr(queue, "former", None), "name", ""), getattr(queue, "former_key", "")],
} for name, queue in app.amqp.queues.items()}))
"""
QUORUM = {"type": "quorum", "former": ["", ""]}
versions = pytest.mark.parametrize("version", VERSIONS)


@versions
@pytest.mark.parametrize("project", PROJECTS)
def test_the_applications_settings_stay_and_the_promise_lies_on_top(write: Callable[..., Path], version: str, project: str):
    answer = run(write_project(write, PROJECTS[project]), version, SETTINGS)
    assert answer["conf"] == OVERRULED | KEPT
    # What `inspect conf` answers, and so the promise check sees.
    assert answer["table"] == {name: value for name, value in (OVERRULED | KEPT).items() if name != "broker_read_url"}
    assert (answer["route"], answer["task"]) == ("fast", True)


@versions
@pytest.mark.parametrize("project", ["Django", "assignments"])
def test_declared_queues_become_quorum_queues_that_hold_delayed_jobs(write: Callable[..., Path], version: str, project: str):
    """Two queues with one exchange and key: each job still goes to one of them only."""
    queues = run(write_project(write, PROJECTS[project]), version, QUEUES)
    assert queues["default"] == QUORUM | {"exchange": ["default.topic", "topic"], "key": "default"}
    for name in ("fast", "slow"):
        former = {"former": ["work", "work.#"]}
        assert queues[name] == QUORUM | former | {"exchange": [f"{name}.topic", "topic"], "key": name}
    assert (queues["unheard of"]["type"], queues["unheard of"]["exchange"][1]) == ("quorum", "topic")


@versions
def test_queues_that_ask_for_what_a_quorum_queue_cannot_do_stay_and_are_left_to_the_promise_check(write, version: str):
    queues = """[
        Queue("classic", queue_arguments={"x-queue-type": "classic"}), Queue("ranked", max_priority=5),
        Queue("ranked too", queue_arguments={"x-max-priority": 5}), Broadcast("news"), Queue("mine", exclusive=True),
        Queue("passing", auto_delete=True), Queue("forgetful", durable=False),
        Queue("log", queue_arguments={"x-queue-type": "stream"}),
    ]"""
    app = "from celery import Celery\nfrom kombu import Queue\nfrom kombu.common import Broadcast\napp = Celery('shop')\n"
    app += f"app.conf.task_queues = {queues}\n"
    types = {name: queue["type"] for name, queue in run(write_project(write, {"celery": app}), version, QUEUES).items()}
    assert {name for name, kind in types.items() if kind == "quorum"} == {"unheard of"}
    assert (types["classic"], types["log"], len(types)) == ("classic", "stream", 9)


@versions
def test_an_application_without_settings_has_the_platforms(write: Callable[..., Path], version: str):
    folder = write_project(write, {"celery": "from celery import Celery\napp = Celery('shop')\n"})
    assert run(folder, version, OF_APP.format(["task_ignore_result", "task_acks_late"])) == [True, True]
    assert run(folder, version, QUEUES)["shop"] == QUORUM | {"exchange": ["shop", "topic"], "key": "shop"}


@versions
def test_the_platforms_settings_may_be_imported_before_celery(write: Callable[..., Path], version: str):
    """As the promise check does."""
    folder = write_project(write, PROJECTS["Django"])
    assert run(folder, version, "import grunnfjell_settings\n" + OF_APP.format(["broker_url"])) == ["memory://platform"]


@versions
def test_an_application_with_a_result_backend_gets_its_results(write: Callable[..., Path], version: str):
    app = "from celery import Celery\napp = Celery('shop', backend='cache+memory://')\n"
    assert run(write_project(write, {"celery": app}), version, OF_APP.format(["task_ignore_result"])) == [False]


@versions
def test_a_waived_setting_is_the_applications(write: Callable[..., Path], version: str):
    waived = (*DEFAULTS, "task_acks_late", "broker_transport_options")
    settings = OWN.format(p="CELERY_") + "CELERY_BROKER_TRANSPORT_OPTIONS = {'confirm_publish': 0}\n"
    folder = write_project(write, PROJECTS["Django"] | {"settings": f"SECRET_KEY = 'x'\n{settings}"}, waived)
    answer = run(folder, version, OF_APP.format(["task_acks_late", "broker_transport_options"]))
    assert answer == [False, {"confirm_publish": 0}]


@versions
def test_an_application_of_another_broker_is_left_alone(write: Callable[..., Path], version: str):
    app = "from celery import Celery\napp = Celery('partner', broker='memory://partner', changes={'broker_elsewhere': True})\n"
    names = ["broker_url", "task_acks_late", "task_default_queue"]
    folder = write_project(write, {"celery": app + "from kombu import Queue\napp.conf.task_queues = [Queue('theirs')]\n"})
    assert run(folder, version, OF_APP.format(names)) == ["memory://partner", False, "celery"]
    assert {queue["type"] for queue in run(folder, version, QUEUES).values()} == {None}


@versions
def test_the_environment_does_not_lead_to_another_broker(write: Callable[..., Path], version: str):
    names = ("CELERY_BROKER_URL", "CELERY_BROKER_READ_URL", "CELERY_BROKER_WRITE_URL")
    program = f"""
import json, os
os.environ.update(dict.fromkeys({names!r}, "memory://elsewhere"))
from celery import Celery
from shop.celery import app
partner = Celery("partner", changes={{"broker_elsewhere": True}})
print(json.dumps([
    *(getattr(app.conf, name) for name in ("broker_url", "broker_read_url", "broker_write_url")),
    app.connection_for_write().hostname, partner.conf.broker_url,
]))
"""
    app = "from celery import Celery\napp = Celery('shop')\n"
    answer = run(write_project(write, {"celery": app}), version, program)
    assert answer == ["memory://platform"] * 3 + ["platform", "memory://elsewhere"]


@versions
def test_the_promise_check_learns_where_a_function_routes_a_task(write: Callable[..., Path], version: str):
    app = """
from celery import Celery
app = Celery("shop")
def route(name, args, kwargs, options, task=None, **more):
    return {"queue": "far"} if name.endswith("far") else {"queue": args[0]} if name.endswith("argument") else None
app.conf.task_routes = (route,)
def task(): pass
for name in ("near", "far", "by_argument"):
    app.task(task, name=f"shop.{name}")
"""
    program = "import json\nfrom grunnfjell_account import destinations\nfrom shop.celery import app\n"
    program += "print(json.dumps(destinations(app)))"
    assert run(write_project(write, {"celery": app}), version, program) == {"shop.near": "shop", "shop.far": "far"}


RETURNING = """
import json
from kombu import Producer
from kombu.common import Broadcast
from kombu.exceptions import OperationalError
from shop.celery import app
import shop.tasks
app.finalize()
asked = []
class Returning(Producer):
    def publish(self, body, mandatory=False, exchange=None, routing_key=None, **options):
        asked.append(mandatory)
        if mandatory:  # as the channel does before the confirm
            self.on_return(Exception("NO_ROUTE"), exchange, routing_key, None)
raised = []
with app.connection() as connection:
    producer = Returning(connection.channel())
    for options in ({}, {"queue": Broadcast("everybody")}, {"mandatory": False}):
        try:
            shop.tasks.order.apply_async(producer=producer, **options)
        except OperationalError as error:
            raised.append(str(error))
print(json.dumps({"asked": asked, "raised": raised, "left": producer.on_return}))
"""


@versions
def test_a_task_that_no_queue_takes_raises_where_it_is_sent(write: Callable[..., Path], version: str):
    """The broker confirms a message that reaches no queue, and drops it."""
    answer = run(write_project(write, PROJECTS["Django"]), version, RETURNING)
    assert answer["asked"] == [True, False, False] and answer["left"] is None
    (reason,) = answer["raised"]
    assert reason.startswith("shop.tasks.order has no queue: exchange 'fast.topic', routing key 'fast' (NO_ROUTE"), reason


def test_a_sitecustomize_that_this_one_hides_still_runs(write: Callable[..., Path]):
    folder = write_project(write, {"celery": "from celery import Celery\napp = Celery('shop')\n"})
    write("sitecustomize.py", "import builtins\nbuiltins.hidden = 'ran'\n")
    program = "import json\nfrom shop.celery import app\nprint(json.dumps([hidden, app.conf.task_acks_late]))"
    assert run(folder, VERSIONS[-1], program) == ["ran", True]
