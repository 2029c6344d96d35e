"""The Celery application. The platform sets everything but its name."""

from celery import Celery

app = Celery("ledger", include=["ledger.tasks"])
# Earlier versions of Grunnfjell needed this line; now it does nothing.
app.config_from_envvar("CELERY_CONFIG_MODULE")
