"""A small project for each row of the table in docs/your-application.md, and what it reports with the row's lines.

`# LINES` is where the row's own code goes. Each has a web application that publishes one job for a request.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from celery_projects import DJANGO_APP, TASKS

APP, WEB = "application_celery_app: shop.celery\n", "producer_wsgi_app: shop.web:app\n"
PLAIN = "import os\nfrom celery import Celery\nfrom kombu import Queue\napp = Celery('shop')\n"
WSGI = """
from shop.celery import app as celery
from shop.tasks import order
def app(environ, start):
    if environ["PATH_INFO"] == "/":
        order.delay()
    start("202 Accepted" if environ["PATH_INFO"] == "/" else "200 OK", [])
    return []
"""
DJANGO = {
    "shop/celery.py": DJANGO_APP,
    "shop/tasks.py": TASKS,
    "shop/settings.py": """
SECRET_KEY = "x"
INSTALLED_APPS = ["shop", "django.contrib.sessions"]
MIDDLEWARE = ["django.middleware.common.CommonMiddleware"]
SESSION_ENGINE = "django.contrib.sessions.backends.cache"
ROOT_URLCONF = "shop.urls"
CELERY_BROKER_URL = "redis://localhost"
CELERY_TASK_ALWAYS_EAGER = True
# LINES
""",
    "shop/urls.py": """
from django.http import HttpResponse
from django.urls import path
from shop.tasks import order
def accept(request):
    order.delay()
    return HttpResponse(status=202)
urlpatterns = [path("", accept), path("health/", lambda request: HttpResponse())]
""",
    "shop/wsgi.py": """
import os
from django.core.wsgi import get_wsgi_application
os.environ.setdefault("DJANGO_SETTINGS_MODULE", "shop.settings")
from shop import celery
application = get_wsgi_application()
""",
    "manage.py": """
import os
import sys
from django.core.management import execute_from_command_line
os.environ.setdefault("DJANGO_SETTINGS_MODULE", "shop.settings")
execute_from_command_line(sys.argv)
""",
}
# As Flask's documentation has it.
FLASK = {
    "shop/__init__.py": """
from celery import Celery, Task
from flask import Flask
def celery_init_app(app):
    class FlaskTask(Task):
        def __call__(self, *args, **kwargs):
            with app.app_context():
                return self.run(*args, **kwargs)
    celery_app = Celery(app.name, task_cls=FlaskTask)
    celery_app.config_from_object(app.config["CELERY"])
    celery_app.set_default()
    app.extensions["celery"] = celery_app
    return celery_app
def create_app():
    app = Flask("shop")
    app.config.from_mapping(CELERY={"broker_url": "redis://localhost", "task_ignore_result": True, "timezone": "Europe/Oslo"})
    celery_init_app(app)
    from shop.tasks import order
    @app.get("/")
    def accept():
        order.delay()
        return "", 202
    @app.get("/health")
    def health():
        return ""
    return app
""",
    "shop/tasks.py": TASKS,
    "shop/make_celery.py": """
from shop import create_app
flask_app = create_app()
celery_app = flask_app.extensions["celery"]
""",
    "shop/web.py": "from shop import create_app\napp = create_app()\n",
}


@dataclass(frozen=True)
class Project:
    """given: the inventory's lines that another row is about.

    program: statements after the request, which fill `result`, as do the numbers of waiting jobs by queue.
    """

    files: Mapping[str, str]
    result: Mapping[str, Any]
    given: str = APP + WEB
    program: str = ""


def plain(
    code: str, result: Mapping[str, Any], program: str = "", given: str = APP + WEB, tasks: str = TASKS, **files: str
) -> Project:
    """A project that creates its Celery application in shop/celery.py. files: further modules of it."""
    own = {"celery": f"{PLAIN}app.conf.imports = ['shop.tasks']\n{code}", "tasks": tasks, "web": WSGI} | files
    return Project({f"shop/{name}.py": text for name, text in own.items()}, result, given, program)


def conf(*names: str) -> str:
    """A statement that reports these settings."""
    return f"result |= {{name: getattr(app.conf, name) for name in {names!r}}}\n"


QUEUES = """
result["types"] = {name: queue.queue_arguments["x-queue-type"] for name, queue in app.amqp.queues.items()}
"""
# With a worker in a thread.
RESULT = """
import json, os
from celery.contrib.testing.worker import start_worker
from celery.result import AsyncResult
from shop.celery import app
from shop.tasks import order
with start_worker(app, pool="solo", perform_ping_check=False, shutdown_timeout=30):
    print(json.dumps(AsyncResult(order.delay().id).get(timeout=30)), flush=True)
    os._exit(0)  # a stop would wait for the consumer's next attempt to receive
"""
ONE = {"waiting": {"shop": 1}}
MAIL = {"types": {"mail": "quorum", "shop": "quorum"}, "waiting": {"shop": 1, "mail": 1}}
PROJECTS = {
    "Django": Project(DJANGO, ONE | {"task_always_eager": False}, "", conf("task_always_eager")),
    "Flask": Project(FLASK, ONE | {"timezone": "Europe/Oslo", "broker_url": "memory://"}, "", conf("timezone", "broker_url")),
    "plain Celery": plain("", ONE, "", WEB),
    "a `celery.py` that you cannot edit": Project(
        {
            "tickets/__init__.py": "",
            "tickets/celery.py": f"{PLAIN}app.conf.timezone = 'UTC'\napp.conf.imports = ['shop.tasks']\n",
            "shop/tasks.py": TASKS,
            "shop/web.py": WSGI.replace("shop.celery", "tickets.celery"),
        },
        ONE | {"timezone": "Europe/Oslo", "imports": ["shop.tasks"]},
        WEB,
        conf("timezone", "imports"),
    ),
    "it declares queues": plain(
        "app.conf.task_queues = [Queue('mail')]\n",
        MAIL,
        "import shop.tasks\nshop.tasks.order.apply_async(queue='mail')\nresult['waiting'] = waiting()\n" + QUEUES,
    ),
    "it only names queues": plain(
        "app.conf.task_routes = {'shop.tasks.send': {'queue': 'mail'}}\n",
        MAIL | {"waiting": {"shop": 1, "mail": 2}},
        "import shop.tasks\nshop.tasks.send.delay()\nshop.tasks.reply.delay()\nresult['waiting'] = waiting()\n" + QUEUES,
        tasks=TASKS + "@shared_task\ndef send(): pass\n@shared_task(queue='mail')\ndef reply(): pass\n",
    ),
    "it has its own default queue": plain(
        "app.conf.task_default_queue = 'default'\n", {"waiting": {"default": 1}, "types": {"default": "quorum"}}, QUEUES
    ),
    "it has a schedule": plain(
        "app.conf.beat_schedule = {'often': {'task': 'shop.tasks.order', 'schedule': 0.001}}\n"
        "app.conf.beat_scheduler = 'shop.scheduler:Scheduler'\n",
        {"waiting": {"shop": 2}, "scheduler": "shop.scheduler"},
        # As `celery beat` does until its first tick; the wait is longer than the interval of the schedule.
        "import time\nbeat = app.Beat(quiet=True)\n"
        "scheduler = beat.Service(app, scheduler_cls=beat.scheduler_cls).get_scheduler()\n"
        "time.sleep(0.01)\nscheduler.tick()\nresult |= {'waiting': waiting(), 'scheduler': type(scheduler).__module__}\n",
        scheduler="from celery import beat\nclass Scheduler(beat.Scheduler): pass\n",
    ),
    "it has cron jobs": Project(
        DJANGO | {"shop/settings.py": DJANGO["shop/settings.py"] + "ALLOWED_HOSTS = ['10.0.0.4']\n"},
        ONE,
        "application_celery_app: shop\nproducer_wsgi_app: shop.wsgi:application\nproducer_health_path: /health/\n",
    ),
    "it reads results": plain(
        "from celery.result import AsyncResult\n# LINES\n",
        {"waiting": {}, "result_backend": "redis://:fedcba9876543210@10.0.0.60/1", "task_ignore_result": False},
        conf("result_backend", "task_ignore_result"),
        tasks=TASKS.replace("pass", "return 'sent'"),
        web=WSGI.replace("order.delay()", "pass"),  # no Redis listens there
    ),
    "it uses priorities": plain(
        "app.conf.task_queue_max_priority = 10\n",
        ONE | {"types": {"shop": "quorum"}, "task_queue_max_priority": None},
        conf("task_queue_max_priority") + QUEUES,
        tasks=TASKS + "@shared_task(priority=9)\ndef urgent(): pass\n",
    ),
    "it shares files": plain(
        "# LINES\n",
        ONE | {"files": "https://10.0.0.61:9000/shop"},
        "import shop.celery\nresult['files'] = shop.celery.FILES_URL\n",
    ),
    "a second Celery application, of another broker": plain(
        "# LINES\n",
        ONE | {"broker_url": "amqps://partner.example.org", "task_acks_late": False, "default": "celery", "type": None},
        "from shop.celery import partner\nfrom celery import _state\n"
        "result |= {name: getattr(partner.conf, name) for name in ('broker_url', 'task_acks_late')}\n"
        "result['default'] = partner.conf.task_default_queue\n"
        "result['type'] = (partner.amqp.queues['celery'].queue_arguments or {}).get('x-queue-type')\n",
    ),
    "it has the line": plain(
        'app.conf.task_queue_max_priority = 3\napp.config_from_envvar("CELERY_CONFIG_MODULE")\n',
        ONE | {"imports": ["shop.tasks"], "task_queue_max_priority": None},
        conf("imports", "task_queue_max_priority"),
    ),
}
