"""Mayan's settings without its static files: npm fetches them when it is packaged, and the package index has none."""

from mayan.settings.production import *  # noqa: F403 - a settings module is extended so
from mayan.settings.production import STORAGES

STORAGES["staticfiles"] = {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"}
