"""pretix' settings, with its files on a file server: its workers write exports and tickets that its web servers hand out."""

import os

from pretix.settings import *  # noqa: F403 - a settings module is extended so
from pretix.settings import STORAGES

_files = {"username": "pretix", "password": os.environ["FILES_PASSWORD"]}
_options = {"host": os.environ["FILES_HOST"], "root_path": "/home/pretix/files", "params": _files, "base_url": "/media/"}
STORAGES["default"] = {"BACKEND": "storages.backends.sftpstorage.SFTPStorage", "OPTIONS": _options}
