"""The replay of a dead letter: what it keeps, what it loses, where it goes."""

import base64
import contextlib
import socket
import ssl
import struct
from threading import Thread

import pytest
from ansible_collections.grunnfjell.platform.plugins.module_utils import amqp_wire
from ansible_collections.grunnfjell.platform.plugins.module_utils.amqp_wire import (
    Message,
    Undelivered,
    fields,
    packed_properties,
    short,
    table,
    text,
    unpacked_properties,
)
from ansible_collections.grunnfjell.platform.plugins.module_utils.broker_operator import endpoint, tls_context
from ansible_collections.grunnfjell.platform.plugins.module_utils.rabbitmq_cli import erlang_binary
from ansible_collections.grunnfjell.platform.plugins.module_utils.rabbitmq_objects import Refusal
from ansible_collections.grunnfjell.platform.plugins.modules.dead_letter_causes import causes, error_logs
from ansible_collections.grunnfjell.platform.plugins.modules.rabbitmq_dead_letters import (
    chosen,
    described,
    expired,
    home,
    reborn,
    refuse_unsafe,
    replay,
)
from ansible_collections.grunnfjell.platform.plugins.plugin_utils.reports.dead_letters import render, with_causes
from ansible_collections.grunnfjell.platform.plugins.plugin_utils.trust.pki import new_authority
from authority import Authority
from hypothesis import given
from hypothesis import strategies as st

DEATH = b"A" + struct.pack(">I", 0)
PARAMS = {"ids": [], "task": "", "everything": True, "limit": 100}

# One value of each type that a broker may hand out.
VALUES = {
    "t": (b"t\x01", True),
    "b": (b"b\xff", -1),
    "B": (b"B\xff", 255),
    "s": (b"s\xff\xfe", -2),
    "u": (b"u\xff\xfe", 65534),
    "I": (b"I\xff\xff\xff\xfd", -3),
    "i": (b"i\x00\x00\x00\x07", 7),
    "l": (b"l" + struct.pack(">q", -(2**40)), -(2**40)),
    "d": (b"d" + struct.pack(">d", 0.5), 0.5),
    "f": (b"f" + struct.pack(">f", 0.5), 0.5),
    "V": (b"V", None),
    "T": (b"T" + struct.pack(">Q", 1795528526), 1795528526),
    "D": (b"D\x02\x00\x00\x00\x7d", 1.25),
    "S": (text("blå"), "blå"),
    "x": (b"x\x00\x00\x00\x02\x00\x01", b"\x00\x01"),
    "F": (b"F" + table({"a": b"V"}), {"a": None}),
    "A": (b"A\x00\x00\x00\x03t\x00V", [False, None]),
}


@pytest.mark.parametrize("kind", VALUES)
def test_every_type_of_header_is_read_and_kept_byte_for_byte(kind):
    raw, value = VALUES[kind]
    assert amqp_wire.value(raw) == value
    held = {"first": raw, "second": raw}
    assert fields(table(held)[4:]) == held


@given(
    st.dictionaries(st.text(max_size=20), st.sampled_from([raw for raw, _ in VALUES.values()]), max_size=8),
    st.sets(st.sampled_from([name for name, _ in amqp_wire.PROPERTIES if name != "headers"])),
)
def test_the_properties_of_a_message_are_read_as_they_were_sent(headers, names):
    sizes = {"short": short("blå"), "octet": b"\x02", "longlong": struct.pack(">Q", 7)}
    properties = {name: sizes[kind] for name, kind in amqp_wire.PROPERTIES if name in names}
    back = unpacked_properties(packed_properties(Message(b"", properties, headers)))
    assert (back.properties, back.headers) == (properties, headers)


def test_a_replayed_letter_loses_the_headers_of_its_death_and_nothing_else():
    own = {"id": text("a"), "task": text("t"), "retries": b"I\0\0\0\1"}
    death = dict.fromkeys(("x-death", "x-first-death-queue", "x-last-death-queue", "x-delivery-count", "CC"), DEATH)
    properties = {
        "content_type": short("application/json"),
        "delivery_mode": b"\1",
        "user_id": short("shop"),
        "expiration": short("5"),
    }
    fresh = reborn(Message(b"body", properties, own | death, tag=3))
    assert (fresh.body, fresh.headers) == (b"body", own)
    assert fresh.properties == {"content_type": short("application/json"), "delivery_mode": b"\2"}


class Broker:
    """A queue of dead letters that records every step."""

    def __init__(self, letters: list[Message], refuses: tuple[str, ...] = ()) -> None:
        self.letters, self.refuses, self.steps = letters, refuses, []

    def get(self, queue: str) -> Message | None:
        return self.letters.pop(0) if self.letters else None

    def publish(self, exchange: str, queue: str, message: Message) -> None:
        name = message.header("id")
        if name in self.refuses:
            raise Undelivered("no queue accepted it: NO_ROUTE")
        self.steps.append(("confirmed", name, queue))

    def ack(self, tag: int) -> None:
        self.steps.append(("acked", tag))

    def finish(self) -> None:
        self.steps.append(("finished",))


def letter(tag: int, **headers: str) -> Message:
    death = {"queue": text("shop"), "reason": text("rejected")}
    array = b"F" + table(death)
    held = {"x-death": b"A" + struct.pack(">I", len(array)) + array, **{name: text(value) for name, value in headers.items()}}
    return Message(b"", {}, {"id": text(f"id{tag}"), "task": text("shop.mail"), **held}, tag)


def replayed(broker: Broker, total: int, **params) -> dict:
    result = {"replayed": [], "kept": []}
    replay(broker, "v", total, PARAMS | params, result)
    return result


def test_a_letter_is_acknowledged_only_after_its_replay_is_confirmed():
    broker = Broker([letter(1), letter(2)], refuses=("id1",))
    result = replayed(broker, 2)
    assert broker.steps == [("confirmed", "id2", "shop"), ("acked", 2), ("finished",)]
    assert result["replayed"] == [{"vhost": "v", "id": "id2"}]
    assert result["kept"] == [{"vhost": "v", "id": "id1", "why": "shop: no queue accepted it: NO_ROUTE"}]


def test_only_the_chosen_letters_are_replayed_up_to_the_limit():
    letters = [letter(1), letter(2), letter(3)]
    result = replayed(Broker(letters), 3, everything=False, ids=["id2", "id3"], limit=1)
    assert result["replayed"] == [{"vhost": "v", "id": "id2"}]


def test_one_replay_handles_each_letter_once():
    assert len(replayed(Broker([letter(1), letter(1), letter(1)]), 1)["replayed"]) == 1


def test_an_expired_letter_is_kept():
    result = replayed(Broker([letter(1, expires="2020-01-01T00:00:00+00:00")]), 1)
    assert result["replayed"] == [] and "its deadline passed" in result["kept"][0]["why"]
    assert expired("2020-01-01T00:00:00") and not expired(None) and not expired("2999-01-01T00:00:00+00:00")


def test_letters_are_chosen_by_id_task_or_all():
    message = letter(1)
    for choice in ((["id1"], "", False), ([], "shop.mail", False), ([], "", True)):
        assert chosen(message, *choice)
    for choice in ((["id2"], "", False), ([], "shop", False), ([], "", False)):
        assert not chosen(message, *choice)
    assert not chosen(Message(), [], "", False)


def test_a_letter_returns_to_the_queue_where_it_died_last():
    assert home([{"queue": "mail"}, {"queue": "celery_delayed_4"}], None) == "mail"
    assert home([{"queue": "celery_delayed_4"}], "mail") == "mail"
    assert home([], None) is None


def peeked(**more) -> dict:
    deaths = [{"queue": "shop", "reason": "delivery_limit", "count": 2, "time": 1795528526}]
    job = {"id": "a", "task": "t", "retries": 0, "expires": None, "argsrepr": "('Kari',)", "kwargsrepr": "{}"}
    return {**job, "origin": "gen1@web1", "x-last-death-queue": None, "deaths": deaths, **more}


def test_arguments_of_a_task_are_shown_only_on_demand():
    hidden = described("v", peeked(), show_arguments=False)
    assert (hidden["reason"], hidden["queue"], hidden["count"]) == ("delivery_limit", "shop", 2)
    assert "Kari" not in str(hidden)
    assert described("v", peeked(), show_arguments=True)["args"] == "('Kari',)"


def test_where_headers_are_redacted_the_body_is_shown_on_demand():
    body = base64.b64encode(b'[["Kari"], {"n": 1}, {"chain": null}]').decode()
    redacted = peeked(argsrepr="[redacted]", kwargsrepr="[redacted]", body=body)
    assert described("v", redacted, show_arguments=True)["args"] == "['Kari']"
    assert described("v", redacted, show_arguments=True)["kwargs"] == "{'n': 1}"
    assert "Kari" not in str(described("v", redacted, show_arguments=False))
    assert described("v", peeked(body=base64.b64encode(b"\x80").decode()), show_arguments=True)["args"] == "('Kari',)"


def test_the_exception_is_read_from_the_log_and_its_text_shown_only_on_demand():
    log = [
        "[...: ERROR/ForkPoolWorker-1] Task shop.mail[a] raised unexpected: ValueError('no such customer: Kari')",
        "[...: ERROR/ForkPoolWorker-1] Task shop.mail[b] raised unexpected: KeyError('x')",
        "[...: ERROR/MainProcess] Task handler raised error: WorkerLostError('...')",
        "[...: CRITICAL/MainProcess] Task shop.mail[c] was refused: it cannot be decoded (DecodeError)",
    ]
    assert causes(log, {"c"}, show_arguments=False) == {"c": "it cannot be decoded"}
    assert causes(log, {"a"}, show_arguments=False) == {"a": "ValueError"}
    assert causes(log, {"a"}, show_arguments=True) == {"a": "ValueError('no such customer: Kari')"}


def test_the_logs_are_those_of_the_sections_of_supervisord(tmp_path):
    for name in ("worker.err.log", "worker.err.log.1", "other.err.log"):
        (tmp_path / name).touch()
    sections = f"[program:celery-worker]\nstdout_logfile={tmp_path}/worker.log\nstderr_logfile={tmp_path}/worker.err.log\n"
    assert sorted(log.name for log in error_logs(sections)) == ["worker.err.log", "worker.err.log.1"]


def test_the_report_is_a_readable_list():
    letters = with_causes([described("v", peeked(), False)], [{}, {"a": "ValueError"}])
    report = {"action": "list", "totals": {"v": 7}, "letters": letters, "without": [], "replayed": [], "kept": []}
    assert render(report).splitlines() == [
        "7 dead letters, 1 shown.",
        "v  a  t",
        "    2026-11-24 13:55:26Z  delivery_limit (no worker survived it) in shop, 2 times",
        "    ValueError",
    ]
    without = {"without": [{"vhost": "v", "queue": "cls", "type": "classic", "text": "a job that fails in v/cls is lost"}]}
    assert render(report | without).splitlines()[1] == "! a job that fails in v/cls is lost."
    replayed = report | {
        "action": "replay",
        "replayed": [{"vhost": "v", "id": "a"}],
        "kept": [{"vhost": "v", "id": "b", "why": "w"}],
    }
    assert render(replayed).splitlines() == ["1 replayed, 6 left as they were.", "  v  b  was kept: w"]


def test_a_queue_that_would_destroy_its_letters_is_refused():
    refuse_unsafe({"vhost": "v", "delivery_limit": None, "ttl": None})
    with pytest.raises(Refusal, match="v/dead_letters has a delivery limit of 20"):
        refuse_unsafe({"vhost": "v", "delivery_limit": 20, "ttl": None})


def test_the_replay_connects_on_the_host_itself():
    plain = {"protocol": "amqp", "address": "0.0.0.0", "port": 5672}
    tls = {"protocol": "amqp/ssl", "address": "10.0.0.11", "port": 5671}
    assert endpoint([tls, plain])["address"] == "127.0.0.1"
    assert endpoint([tls]) == tls
    with pytest.raises(Refusal):
        endpoint([{"protocol": "clustering", "address": "127.0.0.1", "port": 25672}])


@pytest.mark.parametrize("shown", ["broker", "neighbour"])
def test_only_the_certificate_of_the_broker_is_trusted(tmp_path, shown):
    """A real handshake: another host of the fleet on the broker's port does not get the operator's password."""
    pair = new_authority("first")
    authority = Authority(pair["certificate"], pair["key"], tmp_path)
    pairs = {name: authority.issue(name) for name in ("broker", "neighbour")}
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=authority.bundle)
    server.load_cert_chain(*pairs[shown])
    server.verify_mode = ssl.CERT_REQUIRED
    context = tls_context({"protocol": "amqp/ssl"}, dict(zip(("certfile", "keyfile"), pairs["broker"], strict=True)))
    ours, theirs = socket.socketpair()

    def serve() -> None:
        with contextlib.suppress(OSError), theirs, server.wrap_socket(theirs, server_side=True) as wrapped:
            wrapped.sendall(b"hello")

    serving = Thread(target=serve)
    serving.start()
    refused = contextlib.nullcontext() if shown == "broker" else pytest.raises(ssl.SSLCertVerificationError)
    with ours, refused, context.wrap_socket(ours) as wrapped:
        assert wrapped.recv(5) == b"hello"
    serving.join(10)


@given(st.text())
def test_no_name_escapes_its_quotes_in_an_erlang_expression(name):
    quoted = erlang_binary(name)
    assert quoted.count('"') == 2 and quoted.isascii()
