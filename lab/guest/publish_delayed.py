"""Runs in ledger's environment on a producer: publishes jobs, each [key, number, seconds], that begin after a countdown."""

import json
import sys

from ledger.tasks import enter

countdown, jobs = float(sys.argv[1]), json.loads(sys.argv[2])
for key, number, seconds in jobs:
    enter.apply_async((key, number, seconds, False), task_id=key, countdown=countdown)
