"""Whether Celery understands role application's files."""

from __future__ import annotations

import json

import pytest

testinfra_hosts = ["ansible://application"]

# First version of Celery that knows a setting. An older one ignores it; grunnfjell_celery or another setting does the same there.
SINCE = {
    "task_acks_on_failure": "5.7",
    "task_acks_on_timeout": "5.7",
    "task_create_missing_queue_type": "5.6",
    "task_create_missing_queue_exchange_type": "5.6",
    "control_queue_durable": "5.6",
    "control_queue_exclusive": "5.6",
    "event_queue_durable": "5.6",
    "event_queue_exclusive": "5.6",
}
# Settings of the file with one of Celery's prefixes that this release's Celery does not know.
UNKNOWN = """
import celery, json, grunnfjell_settings
from celery.app.defaults import DEFAULTS
prefixes = tuple({name.split("_")[0] + "_" for name in DEFAULTS})
given = [name for name in vars(grunnfjell_settings) if name.startswith(prefixes)]
unknown = [name for name in given if name not in DEFAULTS]
print(json.dumps({"version": celery.__version__, "given": len(given), "unknown": unknown}))
"""


@pytest.fixture
def run(host, inputs):
    prefix = f"runuser -u {inputs['application_user']} -- /opt/{inputs['application_name']}/current/run "
    return lambda *argv: host.run(prefix + " ".join(["%s"] * len(argv)), *argv)


def test_celery_knows_every_setting_of_its_file(run):
    result = run("python", "-c", UNKNOWN)
    assert result.rc == 0, result.stderr
    settings = json.loads(result.stdout)
    later = {name for name, version in SINCE.items() if settings["version"].split(".")[:2] < version.split(".")}
    assert settings["given"] > 10 and set(settings["unknown"]) == later
