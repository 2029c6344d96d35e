"""What a recorder could read: streams from packets, secrets in every encoding, and TLS, distinguished from plain text."""

import base64
import json
import struct
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lab.exposure import capture, wire
from lab.vault import leaves

CLIENT, SERVER = ("10.77.0.31", 40000), ("10.77.0.11", 5671)
SECRET = 'p/w"ß+Grunnfjell-7'


def packet(source: wire.End, destination: wire.End, number: int, content: bytes = b"", flags: int = 0x10) -> bytes:
    tcp = struct.pack(">HHIIBBHHH", source[1], destination[1], number % 2**32, 0, 5 << 4, flags, 1024, 0, 0) + content
    addresses = b"".join(bytes(map(int, end[0].split("."))) for end in (source, destination))
    ip = struct.pack(">BBHHHBBH", 0x45, 0, 20 + len(tcp), 0, 0, 64, 6, 0) + addresses + tcp
    # Short frames are padded; the padding is not content.
    return (b"\0" * 12 + b"\x08\x00" + ip).ljust(60, b"\0")


def pcap(*frames: bytes, order: str = "<") -> bytes:
    head = struct.pack(f"{order}IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 262144, 1)
    return head + b"".join(struct.pack(f"{order}IIII", 0, 0, len(frame), len(frame)) + frame for frame in frames)


def record(content: bytes, kind: int = 23) -> bytes:
    return struct.pack(">BHH", kind, 0x0303, len(content)) + content


@pytest.mark.parametrize("order", ["<", ">"])
def test_a_stream_is_assembled_in_order_without_repetitions(order):
    start = 2**32 - 4  # sequence numbers wrap around
    frames = [
        packet(CLIENT, SERVER, start, flags=2),
        packet(CLIENT, SERVER, start + 6, b"world"),
        packet(CLIENT, SERVER, start + 1, b"hello"),
        packet(CLIENT, SERVER, start + 1, b"hello"),
        packet(CLIENT, SERVER, start + 4, b"loworld!"),
        packet(SERVER, CLIENT, 7, b"other"),
    ]
    (outgoing,) = [stream for stream in wire.streams(pcap(*frames, order=order)) if stream.source == CLIENT]
    assert outgoing.content() == b"helloworld!"
    assert outgoing.packets == 5


def test_a_second_connection_of_the_same_ports_is_a_separate_stream():
    frames = [packet(CLIENT, SERVER, 0, flags=2), packet(CLIENT, SERVER, 1, b"one")]
    frames += [packet(CLIENT, SERVER, 900, flags=2), packet(CLIENT, SERVER, 901, b"two")]
    assert [stream.content() for stream in wire.streams(pcap(*frames))] == [b"one", b"two"]


def test_invalid_data_is_not_read_as_an_empty_capture():
    with pytest.raises(ValueError):
        list(wire.packets(b"nothing of the kind"))


@pytest.mark.parametrize("before", [b"", b"x", b"xy", b"\0user\0"])
@pytest.mark.parametrize(
    "write",
    [
        str.encode,
        lambda secret: json.dumps({"password": secret}).encode(),
        lambda secret: json.dumps({"password": secret}).replace("/", "\\/").encode(),
        lambda secret: secret.encode().hex().encode(),
        lambda secret: quote(secret, safe="").encode(),
        lambda secret: secret.encode("utf-16-le"),
    ],
)
def test_a_secret_is_found_in_every_encoding(before, write):
    assert wire.readable([before + write(SECRET) + b"after"], {"password": SECRET})


@given(before=st.binary(max_size=7), after=st.binary(max_size=7), secret=st.text(st.characters(codec="ascii"), min_size=10))
def test_a_secret_is_found_inside_any_base64(before, after, secret):
    whole = before + secret.encode() + after
    for encoded in (base64.b64encode(whole), base64.urlsafe_b64encode(whole)):
        assert wire.readable([encoded], {"it": secret})


def test_a_secret_that_is_split_over_packets_is_found_and_not_repeated():
    frames = [
        packet(CLIENT, SERVER, 1, b"\0newsroom\0" + SECRET.encode()[:7]),
        packet(CLIENT, SERVER, 19 - 1, SECRET.encode()[7:]),
    ]
    recorded = pcap(*frames)
    assert not wire.readable([recorded], {"password": SECRET})
    answer = capture.findings(recorded, {"password": SECRET, "other": "another-secret"}, [5671], 1)
    assert answer["readable"] == ["password"]
    assert SECRET not in json.dumps(answer)


def test_random_bytes_contain_no_secret():
    assert wire.readable([bytes(range(256)) * 64], {"password": SECRET}) == {}


def test_records_are_counted_from_the_start_and_from_the_middle_of_one():
    whole = b"".join(record(b"x" * size) for size in (100, 200, 300))
    assert wire.in_records(whole) == len(whole)
    # A connection that is older than the recording.
    assert wire.in_records(b"\x42" * 37 + whole) == len(whole)
    assert wire.in_records(b"S" + whole) == len(whole)
    assert wire.in_records(record(b"y")) == 6


def test_plain_text_is_not_a_record():
    for content in (b"AMQP\0\0\x09\x01" * 50, b"GET / HTTP/1.1\r\n" * 50, b"", record(b"x" * 50, kind=9)):
        assert wire.in_records(content) == 0


def test_records_and_then_plain_text_are_not_all_tls():
    sealed = record(b"x" * 50) * 3
    assert wire.in_records(sealed + b"plain" * 100) == len(sealed)


def test_both_directions_count_for_the_port_of_the_service():
    frames = [packet(CLIENT, SERVER, 1, record(b"x" * 10)), packet(SERVER, CLIENT, 1, b"plain")]
    counted = wire.by_port(wire.streams(pcap(*frames)), [5671])
    assert {port: (count.packets, count.payload, count.tls) for port, count in counted.items()} == {5671: (2, 20, 15)}


def test_secrets_of_the_vault_have_names_and_certificates_are_not_secrets():
    key = "-----BEGIN PRIVATE KEY-----\nMIGHAgEAMBMGByq\nGSM49\n-----END PRIVATE KEY-----\n"
    vault = {
        "vault_a": {"newsroom": "0123456789"},
        "vault_b": "short",
        "vault_c": {"first": {"key": key, "certificate": "BEGIN CERTIFICATE"}},
    }
    assert dict(leaves(vault)) == {"vault_a.newsroom": "0123456789", "vault_c.first.key": "MIGHAgEAMBMGByq"}
