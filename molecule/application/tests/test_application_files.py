"""What Celery says of role application's files."""

from __future__ import annotations

import json

import pytest

testinfra_hosts = ["ansible://newsroom"]

# Settings of the file that this release's Celery does not know, though they carry one of its prefixes.
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


def test_celery_knows_every_setting_that_it_is_given(run):
    said = run("python", "-c", UNKNOWN)
    assert said.rc == 0, said.stderr
    found = json.loads(said.stdout)
    assert found["given"] > 10 and found["unknown"] == []
