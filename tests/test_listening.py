"""Where a server listens, from the tables of the kernel. Review finding 15."""

import socket

import pytest
from ansible_collections.grunnfjell.platform.plugins.module_utils import listening

HEAD = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n"
REST = " 00000000:00000000 00:00000000 00000000 0 0 1\n"


@pytest.mark.parametrize(
    ("wanted", "deaf"),
    [
        ("localhost", []),
        ("localhost, 10.0.0.21", ["10.0.0.21"]),
        ("10.0.0.22", []),
        ("*", ["*"]),
        ("localhost,fd00::21", []),
        ("localhost,FD00:0::21", []),  # Review finding 18
        ("localhost,fd00::22", ["fd00::22"]),
    ],
)
def test_an_address_is_deaf_if_nothing_listens_on_the_port(tmp_path, monkeypatch, wanted, deaf):
    monkeypatch.setattr(listening, "has", lambda item: True)
    four, six = tmp_path / "tcp", tmp_path / "tcp6"
    # 127.0.0.1 and 10.0.0.22 listen at 5432; 10.0.0.21 at another port, and as a client's connection (01).
    rows = (
        "0: 0100007F:1538 00000000:0000 0A",
        "1: 1600000A:1538 00000000:0000 0A",
        "2: 1500000A:1539 00000000:0000 0A",
        "3: 1500000A:1538 0100000A:1538 01",
    )
    four.write_text(HEAD + "".join(row + REST for row in rows))
    six.write_text(HEAD + "0: 000000FD000000000000000021000000:1538 00000000000000000000000000000000:0000 0A" + REST)
    assert listening.deaf_addresses(wanted, 5432, (str(four), str(six))) == deaf


def test_the_tables_of_this_kernel_are_read_without_addresses_of_other_hosts():
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert listening.listening(port) == {"127.0.0.1"}
        assert listening.deaf_addresses("localhost, 127.0.0.2, 192.0.2.1", port) == ["127.0.0.2"]
