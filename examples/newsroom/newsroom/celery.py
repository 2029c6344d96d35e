"""The Celery application. The platform sets its broker, queue, acknowledgement and limits."""

from celery import Celery

app = Celery("newsroom", include=["newsroom.tasks"])
app.config_from_envvar("CELERY_CONFIG_MODULE")
