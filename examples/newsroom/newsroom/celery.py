"""The Celery application. The platform sets its broker, queue, acknowledgement and limits."""

from celery import Celery

app = Celery("newsroom", include=["newsroom.tasks"])
