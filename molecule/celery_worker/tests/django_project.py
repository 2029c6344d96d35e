"""A Django project that was not written for the kit: celery.py with namespace settings, routes, beat, classic queues."""

FILES = {
    "manage.py": """
import os, sys
os.environ.setdefault("DJANGO_SETTINGS_MODULE", "shop.settings")
from django.core.management import execute_from_command_line
execute_from_command_line(sys.argv)
""",
    "shop/__init__.py": "from .celery import app as celery_app\n",
    "shop/celery.py": """
import os
from celery import Celery
os.environ.setdefault("DJANGO_SETTINGS_MODULE", "shop.settings")
app = Celery("shop")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()
""",
    # pretix takes the constants out of Python's JSON, and Celery's workers answer with one.
    "shop/settings.py": """
from json.decoder import _CONSTANTS
_CONSTANTS.pop("Infinity", None)
from kombu import Exchange, Queue
SECRET_KEY = "x"
USE_TZ = True
INSTALLED_APPS = ["shop"]
DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}}
CELERY_BROKER_URL = "amqp://guest@localhost"
CELERY_TASK_ALWAYS_EAGER = True
CELERY_TASK_QUEUE_MAX_PRIORITY = 3
CELERY_TASK_DEFAULT_QUEUE = "django-mail"
CELERY_TASK_QUEUES = [
    Queue("django-mail", Exchange("django", type="direct"), routing_key="django"),
    Queue("django-work", Exchange("django", type="direct"), routing_key="django"),
]
CELERY_TASK_ROUTES = {"shop.tasks.dies": {"queue": "django-work"}, "shop.tasks.raises": {"queue": "django-work"}}
CELERY_BEAT_SCHEDULE = {"tick": {"task": "shop.tasks.ticks", "schedule": 1.0}}
CELERY_TIMEZONE = "Europe/Oslo"
""",
    # Each leaves a file when it is done, and one per delivery.
    "shop/tasks.py": """
import os, signal
from pathlib import Path
from celery import shared_task
here = Path(__file__).parent.parent
def delivered(task):
    with open(here / f"runs-{task.name}-{task.request.delivery_info['routing_key']}", "a") as runs:
        runs.write(task.request.id + "\\n")
    return len((here / runs.name).read_text().splitlines())
@shared_task(bind=True)
def raises(self):
    delivered(self)
    raise LookupError("no such order")
@shared_task(bind=True)
def dies(self):
    if delivered(self) == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    (here / "done-dies").touch()
@shared_task(bind=True)
def waits(self):
    delivered(self)
    if not self.request.retries:
        raise self.retry(countdown=2)
    (here / "done-waits").touch()
@shared_task(bind=True)
def ticks(self):
    (here / "done-ticks").touch()
""",
}
QUEUES = ("django-mail", "django-work")
EXCHANGES = ("django", "django-mail.topic", "django-work.topic")
