"""rabbitmqctl on the broker's own host: the one way in that needs neither a password nor a port."""

from __future__ import annotations

import base64
import json
import pwd
import re
import subprocess
from typing import Any

from . import bounded

CLI = "/usr/lib/rabbitmq/bin/rabbitmqctl"
ACCOUNT = "rabbitmq"


class CliError(Exception):
    """What the tool said."""


def call(*arguments: str, timeout: float = 120) -> str:
    """What a command prints."""
    try:
        account = pwd.getpwnam(ACCOUNT)
        # Debian's wrapper in /usr/sbin hands the arguments to a shell; this goes straight to what it calls.
        done = bounded.run(
            [CLI, "--quiet", *arguments],
            timeout,
            cwd=account.pw_dir,
            env={"HOME": account.pw_dir, "PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8"},
            user=account.pw_uid,
            group=account.pw_gid,
            extra_groups=[],
        )
    except (KeyError, FileNotFoundError) as error:
        raise CliError(f"there is no broker on this host ({CLI} is missing)") from error
    except subprocess.TimeoutExpired as error:
        raise CliError(f"the broker's rabbitmqctl {arguments[0]} gave no answer within {timeout:g} s") from error
    if done.returncode:
        lines = [line.strip() for line in (done.stderr or done.stdout).splitlines() if line.strip()]
        raise CliError(f"rabbitmqctl {arguments[0]} failed: {' '.join(lines)[:500]}")
    return done.stdout


def ask(expression: str, timeout: float = 120) -> Any:
    """The value of an Erlang expression of maps, lists, binaries and numbers.

    One call of the tool takes most of a second, whatever it asks; an expression asks everything in one. Base64, because the
    tool prints Erlang's own quoting of a string, in pieces.
    """
    told = call("eval", f"base64:encode(iolist_to_binary(rabbit_json:encode(begin {expression} end))).", timeout=timeout)
    return json.loads(base64.b64decode(re.sub(r"[^A-Za-z0-9+/=]", "", told)))
