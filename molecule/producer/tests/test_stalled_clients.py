"""Clients that stop in the middle of a request, or do not take their answer, keep nobody else waiting."""

from __future__ import annotations

import json

import pytest

testinfra_hosts = ["ansible://producer"]
pytestmark = [pytest.mark.once, pytest.mark.disruptive, pytest.mark.scenario]

BUNDLE = "/etc/grunnfjell/pki/authorities.pem"
STALLED = 50
# Opens clients that stall, and asks for the health page meanwhile. Prints the seconds of each answer, or its error, and how
# many of those that stalled were disconnected within the limit.
STALL = """
import http.client, json, socket, ssl, sys, time
address, port, name, path, bundle, sent, stalled, limit = sys.argv[1:]
context = ssl.create_default_context(cafile=bundle)
parts = {
    "nothing": "",
    "half a head": f"POST /videos HTTP/1.1\\r\\nHost: {name}\\r\\nContent-Le",
    "half a body": f"POST /videos HTTP/1.1\\r\\nHost: {name}\\r\\nContent-Length: 200000\\r\\n\\r\\n" + "x" * 100000,
}
def connect(seconds, encrypted=True):
    plain = socket.create_connection((address, int(port)), timeout=seconds)
    return context.wrap_socket(plain, server_hostname=name, do_handshake_on_connect=encrypted)
def ask():
    began = time.monotonic()
    connection = http.client.HTTPConnection(address)
    try:
        connection.sock = connect(5)
        connection.request("GET", path, headers={"Host": f"[{name}]" if ":" in name else name})
        answer = connection.getresponse()
        return time.monotonic() - began if answer.status == 200 else answer.status
    except OSError as error:
        return repr(error)
    finally:
        connection.close()
def disconnected(client, end):
    client.settimeout(max(0.01, end - time.monotonic()))
    try:
        while client.recv(4096):
            pass
    except TimeoutError:
        return False
    except OSError:
        pass
    return True
clients = []
for _ in range(int(stalled)):
    clients.append(connect(2, encrypted=False))
    if sent != "nothing":
        try:
            clients[-1].do_handshake()
            clients[-1].sendall(parts[sent].encode())
        except OSError:
            pass  # the server takes no more of them
began = time.monotonic()
answers = [ask() for _ in range(20)]
print(json.dumps([answers, sum(disconnected(client, began + float(limit)) for client in clients)]))
"""


@pytest.mark.parametrize("sent", ["nothing", "half a head", "half a body"])
def test_stalled_clients_delay_nobody_and_are_disconnected(host, inputs, sent):
    address, _, port = inputs["producer_bind"].rpartition(":")
    address = address.strip("[]")
    name = (inputs["producer_names"] or [address])[0]
    limits = {"half a body": "producer_client_body_timeout"}
    limit = inputs.get(limits.get(sent, "producer_client_header_timeout"), 10) + 10
    arguments = address, port, name, inputs["producer_health_path"], BUNDLE, sent, str(STALLED), str(limit)
    output = host.check_output("python3 -c %s " + " ".join(["%s"] * len(arguments)), STALL, *arguments)
    answers, disconnected = json.loads(output)
    print(f"\n{sent}: {max(map(str, answers))}")
    assert all(isinstance(seconds, float) and seconds < 1 for seconds in answers), answers
    assert disconnected == STALLED
