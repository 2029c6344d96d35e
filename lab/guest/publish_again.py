"""Runs in newsroom's environment on a producer: publishes the job with this key once more."""

import os
import sys

from newsroom.publish import publish

key = sys.argv[1]
publish(key, f"{os.environ['NEWSROOM_INTERNAL_URL']}/internal/videos/{key}/upload")
