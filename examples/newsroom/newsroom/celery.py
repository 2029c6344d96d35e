"""The Celery application. How it reaches its broker and keeps its promises is the platform's to say, in one place."""

from celery import Celery

app = Celery("newsroom", include=["newsroom.tasks"])
app.config_from_envvar("CELERY_CONFIG_MODULE")
