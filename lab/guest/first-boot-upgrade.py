"""Holds dpkg's lock for a while, as the upgrade at a cloud image's first boot does. A POSIX lock, which flock(1) cannot take."""

import fcntl
import sys
import time
from pathlib import Path

with open("/var/lib/dpkg/lock-frontend", "w") as frontend, open("/var/lib/dpkg/lock", "w") as lock:
    fcntl.lockf(frontend, fcntl.LOCK_EX)
    fcntl.lockf(lock, fcntl.LOCK_EX)
    Path("/var/lib/first-boot-upgrade").touch()
    time.sleep(int(sys.argv[1]))  # the lock is held for this long, as by an upgrade
