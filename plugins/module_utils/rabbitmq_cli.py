"""rabbitmqctl on the broker's host, which needs neither a password nor a port."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import pwd
import re
import subprocess
import tempfile
from typing import Any

from . import bounded

TOOLS = "/usr/lib/rabbitmq/bin"
CLI = f"{TOOLS}/rabbitmqctl"
ACCOUNT = "rabbitmq"


# Messages and consumers of a virtual host's queues; null if one queue cannot answer. A quorum queue's leader answers once a
# majority agrees: the metrics are up to five seconds old, and 0 for a queue that is still recovering.
IN_USE = """
    Asked = fun(Q, F) -> case catch ra:consistent_query(amqqueue:get_pid(Q), F, 20000) of {ok, V, _} -> V; _ -> null end end,
    Listed = fun(Q, Key) -> case catch rabbit_amqqueue:info(Q, [Key]) of [{_, V}] -> V; _ -> null end end,
    Count = fun(Q) -> case amqqueue:get_type(Q) of
        rabbit_quorum_queue -> case Asked(Q, fun rabbit_fifo:query_messages_total/1) of
            null -> null;
            M -> case Asked(Q, fun rabbit_fifo:query_consumers/1) of null -> null; C -> [M, map_size(C)] end end;
        _ -> [Listed(Q, messages), Listed(Q, consumers)] end end,
    lists:foldl(fun(_, null) -> null;
                   (Q, [Ms, Cs]) -> case Count(Q) of
                       [M, C] when is_integer(M), is_integer(C) -> [Ms + M, Cs + C]; _ -> null end end,
                [0, 0], rabbit_amqqueue:list(VHOST) ++ rabbit_amqqueue:list_down(VHOST))
"""


class CliError(Exception):
    """rabbitmqctl's error."""


def call(*arguments: str, timeout: float = 120, node: str = "", tool: str = "rabbitmqctl") -> str:
    """The output of a command.  node: the node to ask, this host's if empty.  tool: another of RabbitMQ's tools."""
    try:
        account = pwd.getpwnam(ACCOUNT)
        # Debian's wrapper in /usr/sbin passes the arguments through a shell; this is the program behind it.
        done = bounded.run(
            [f"{TOOLS}/{tool}", "--quiet", *(["--node", node] if node else []), *arguments],
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
        raise CliError(f"the broker's {tool} {arguments[0]} gave no answer within {timeout:g} s") from error
    if done.returncode:
        lines = [line.strip() for line in (done.stderr or done.stdout).splitlines() if line.strip()]
        raise CliError(f"{tool} {arguments[0]} failed: {' '.join(lines)[:500]}")
    return done.stdout


def ask(expression: str, timeout: float = 120, node: str = "") -> Any:
    """The value of an Erlang expression of maps, lists, binaries and numbers.

    A call takes most of a second, so one expression should answer everything. The result is base64, because rabbitmqctl prints
    strings with Erlang's quoting, in pieces.
    """
    output = call(
        "eval", f"base64:encode(iolist_to_binary(rabbit_json:encode(begin {expression} end))).", timeout=timeout, node=node
    )
    # The result is the last binary; log output of the expression comes before it.
    return json.loads(base64.b64decode(re.sub(r"[^A-Za-z0-9+/=]", "", output[output.rfind("<<") :])))


def load(definitions: dict[str, Any]) -> None:
    """Imports definitions, which adds and changes objects."""
    # From a file, since an import from stdin never returns on 4.0.5; in /run, so no hash is written to a disk.
    account = pwd.getpwnam(ACCOUNT)
    handle, path = tempfile.mkstemp(prefix="rabbitmq-definitions-", dir="/run")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as out:
            json.dump(definitions, out)
        os.chown(path, account.pw_uid, account.pw_gid)
        call("import_definitions", path)
    finally:
        os.unlink(path)


def password_hash(password: str, salt: bytes) -> dict[str, str]:
    """The fields of a user in definitions: base64(salt + sha256(salt + password))."""
    digest = base64.b64encode(salt + hashlib.sha256(salt + password.encode()).digest()).decode()
    return {"password_hash": digest, "hashing_algorithm": "rabbit_password_hashing_sha256"}


def erlang_binary(text: str) -> str:
    """A string as an Erlang expression, safe for any quotes in it."""
    return f'base64:decode("{base64.b64encode(text.encode()).decode()}")'


def in_use(vhost: str) -> tuple[int, int] | None:
    """Messages and consumers of a virtual host's queues; None if one of them cannot answer."""
    usage = ask(IN_USE.replace("VHOST", erlang_binary(vhost)))
    return None if usage is None else (usage[0], usage[1])


def kept_because(vhost: str, usage: tuple[int, int] | None) -> str | None:
    """Why an undeclared virtual host is not deleted; None for one that is idle."""
    remedy = f"or add {vhost!r} to rabbitmq_vhosts_removed to delete it with all its contents."
    if usage is None:
        return (
            f"The virtual host {vhost!r} is not in rabbitmq_vhosts any more, but one of its queues does not report how many "
            f"messages it holds. Run again once the broker has recovered its queues, {remedy}"
        )
    if not any(usage):
        return None
    return (
        f"The virtual host {vhost!r} is not in rabbitmq_vhosts any more, but its queues hold {usage[0]} messages and have "
        f"{usage[1]} consumers. Put it back until its workers have finished and are stopped, {remedy}"
    )
