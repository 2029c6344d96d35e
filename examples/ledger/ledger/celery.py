"""The Celery application. Everything but its name is the platform's to say."""

from celery import Celery

app = Celery("ledger", include=["ledger.tasks"])
app.config_from_envvar("CELERY_CONFIG_MODULE")
