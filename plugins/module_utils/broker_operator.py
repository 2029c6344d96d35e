"""Access to the broker of this host by AMQP, for a moment, as a user that exists only meanwhile."""

from __future__ import annotations

import fcntl
import secrets
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from . import rabbitmq_cli
from .rabbitmq_objects import Refusal

# Erlang expressions: where the broker listens on this node, and its TLS files.
LISTENERS = """[#{protocol => element(3, L), address => list_to_binary(inet:ntoa(element(5, L))), port => element(6, L)}
                    || L <- rabbit_networking:active_listeners(), element(2, L) =:= node()]"""
TLS_FILES = """maps:from_list([{K, list_to_binary(F)}
        || {K, F} <- case application:get_env(rabbit, ssl_options) of {ok, O} when is_list(O) -> O; _ -> [] end,
           lists:member(K, [cacertfile, certfile, keyfile])])"""


def endpoint(listeners: list[dict[str, Any]]) -> dict[str, Any]:
    """Where this host's broker accepts AMQP: unencrypted if possible, since the connection stays on the host."""
    for protocol in ("amqp", "amqp/ssl"):
        for listener in listeners:
            if listener["protocol"] == protocol:
                anywhere = {"0.0.0.0": "127.0.0.1", "::": "::1"}
                return {**listener, "address": anywhere.get(listener["address"], listener["address"])}
    raise Refusal("The broker has no AMQP listener on this host.")


def tls_context(listener: dict[str, Any], files: dict[str, str]) -> ssl.SSLContext | None:
    """For a broker that accepts TLS only: trust exactly its certificate, whatever its name."""
    if listener["protocol"] == "amqp":
        return None
    context = ssl.create_default_context(cafile=files["certfile"])
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN  # trust this certificate, not its authority
    context.check_hostname = False  # the broker itself reported the address
    if "certfile" in files and "keyfile" in files:
        context.load_cert_chain(files["certfile"], files["keyfile"])
    return context


@contextmanager
def alone(path: str, what: str) -> Iterator[None]:
    """One at a time.  what: what is under way, for the sentence."""
    with open(path, "w", encoding="utf-8") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise Refusal(f"Another {what} is under way on this broker. Wait until it has ended.") from error
        yield


@contextmanager
def operator(user: str, vhosts: list[str], read: str) -> Iterator[str]:
    """The password of a temporary user who may read the queues that the pattern matches, and write to every queue."""
    password, salt = secrets.token_urlsafe(32), secrets.token_bytes(4)
    grants = {"user": user, "configure": "^$", "write": ".*", "read": read}
    definitions = {
        "users": [{"name": user, "tags": "", **rabbitmq_cli.password_hash(password, salt)}],
        "permissions": [{"vhost": vhost, **grants} for vhost in vhosts],
    }
    try:
        rabbitmq_cli.load(definitions)
        yield password
    finally:
        rabbitmq_cli.call("delete_user", user)
