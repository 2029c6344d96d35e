"""Whether Celery understands role application's files."""

from __future__ import annotations

import json

import pytest

testinfra_hosts = ["ansible://newsroom"]

# Settings of the file with one of Celery's prefixes that this release's Celery does not know.
UNKNOWN = """
import json, celeryconfig
from celery.app.defaults import DEFAULTS
prefixes = tuple({name.split("_")[0] + "_" for name in DEFAULTS})
given = [name for name in vars(celeryconfig) if name.startswith(prefixes)]
print(json.dumps({"given": len(given), "unknown": [name for name in given if name not in DEFAULTS]}))
"""


@pytest.fixture
def run(host):
    return lambda *argv: host.run("runuser -u www-data -- /opt/newsroom/current/run " + " ".join(["%s"] * len(argv)), *argv)


def test_celery_knows_every_setting_of_its_file(run):
    result = run("python", "-c", UNKNOWN)
    assert result.rc == 0, result.stderr
    settings = json.loads(result.stdout)
    assert settings["given"] > 10 and settings["unknown"] == []
