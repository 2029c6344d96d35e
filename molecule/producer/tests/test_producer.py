"""What role producer promises of its web servers."""

from __future__ import annotations

import json

import pytest

testinfra_hosts = ["ansible://producer"]

BUNDLE = "/etc/grunnfjell/pki/authorities.pem"
IDENTITY = "/etc/grunnfjell/pki/producer"
# One request, on a new connection, with the verification of an ordinary client.
ASK = """
import ssl, sys, urllib.request
context = ssl.create_default_context(cafile=sys.argv[2])
print(urllib.request.urlopen(sys.argv[1], timeout=5, context=context).status)
"""
# Requests without a pause while the certificate is replaced; prints each outcome and the serial numbers.
WATCH = """
import http.client, json, os, ssl, subprocess, sys, time
address, path, bundle, identity, other, name, new = sys.argv[1:]
context = ssl.create_default_context(cafile=bundle)
def ask():
    connection = http.client.HTTPConnection(address, timeout=5)
    try:
        connection.connect()
        connection.sock = context.wrap_socket(connection.sock, server_hostname=name)
        serial = connection.sock.getpeercert()["serialNumber"]
        connection.request("GET", path)
        return connection.getresponse().status, serial
    except OSError as error:
        return repr(error), None
    finally:
        connection.close()
def install(target):
    os.symlink(target, identity + ".test")
    os.replace(identity + ".test", identity)
    subprocess.run(["systemctl", "reload", "grunnfjell-nginx"], check=True)
def until_served(number):
    # The reload takes a moment, in which processes with either certificate answer; each request must get its answer.
    answers, end = [], time.monotonic() + 10
    while [serial for _, serial in answers[-50:]] != [number] * 50 and time.monotonic() < end:
        answers.append(ask())
    return [status for status, _ in answers]
def outcomes(seconds):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        yield ask()
before = os.readlink(identity)
first = list(outcomes(1))
install(other)
try:
    statuses = until_served(new)
    second = list(outcomes(2))
finally:
    install(before)
statuses += until_served(first[0][1])
third = list(outcomes(1))
print(json.dumps([sorted(set(map(str, answers))) for answers in (first, second, third, statuses)]))
"""


@pytest.fixture
def servers(host) -> list[str]:
    """The process ids of the two web servers that share the socket."""
    return host.check_output("supervisorctl pid producer:producer_0 producer:producer_1").split()


@pytest.fixture
def health_url(inputs) -> str:
    return f"https://{inputs['producer_bind']}{inputs['producer_health_path']}"


def test_two_web_servers_run_as_their_user_under_supervisord(host, inputs, servers):
    states = host.check_output("supervisorctl status 'producer:*'").splitlines()
    assert len(states) == 2 and all(" RUNNING " in state for state in states), states
    assert host.check_output(f"ps -o user= -p {','.join(servers)}").split() == [inputs["application_user"]] * 2


@pytest.mark.once
@pytest.mark.disruptive
def test_the_socket_stays_open_while_a_web_server_is_replaced(host, health_url):
    host.check_output("supervisorctl stop producer:producer_0")
    try:
        answers = [host.check_output("python3 -c %s %s %s", ASK, health_url, BUNDLE) for _ in range(3)]
    finally:
        host.check_output("supervisorctl start producer:producer_0")
    assert answers == ["200"] * 3


def test_the_producer_has_the_promised_number_of_processes(host, inputs, servers):
    processes = sum(int(host.check_output(f"pgrep -c -P {pid}")) for pid in servers)
    assert processes == max(2, inputs["producer_workers"])


def test_each_process_has_the_promised_number_of_threads(host, inputs, servers):
    for pid in servers:
        assert f"--threads={inputs['producer_threads']}" in host.check_output(f"tr '\\0' ' ' < /proc/{pid}/cmdline").split()


def test_the_producer_answers(host, health_url):
    assert host.check_output("python3 -c %s %s %s", ASK, health_url, BUNDLE) == "200"


@pytest.mark.once
def test_a_client_that_trusts_other_authorities_does_not_trust_the_producer(host, health_url):
    result = host.run("python3 -c %s %s %s", ASK, health_url, "/etc/ssl/certs/ca-certificates.crt")
    assert result.rc and "CERTIFICATE_VERIFY_FAILED" in result.stderr, result.stderr


@pytest.mark.once
def test_plain_http_gets_no_answer_and_sends_no_job(host, inputs):
    url = f"http://{inputs['producer_bind']}"
    for path, body in ((inputs["producer_health_path"], "None"), ("/videos", "b'a film'")):
        ask = f"import urllib.request as u; print(u.urlopen(u.Request('{url}{path}', data={body}), timeout=5).status)"
        result = host.run("python3 -c %s", ask)
        assert result.rc and not result.stdout, result.stdout


@pytest.mark.once
def test_old_tls_versions_and_weak_ciphers_are_refused(host, inputs):
    address = inputs["producer_bind"]
    # SECLEVEL=0 lifts the limits of the client, so the producer has to refuse.
    for offer in ("-tls1_1 -cipher ALL:@SECLEVEL=0", "-tls1_2 -cipher AES128-SHA:AES256-GCM-SHA384"):
        result = host.run(f"openssl s_client -connect {address} {offer} </dev/null")
        assert "Cipher is (NONE)" in result.stdout, result.stdout
    for offer in ("-tls1_2", "-tls1_3"):
        result = host.run(f"openssl s_client -connect {address} {offer} -CAfile {BUNDLE} -verify_return_error </dev/null")
        assert "Verify return code: 0 (ok)" in result.stdout, result.stdout + result.stderr


@pytest.mark.once
@pytest.mark.disruptive
def test_a_renewed_certificate_is_served_without_a_refused_request(host, hostname, inputs, servers):
    """Another certificate of the same authority, installed as role pki installs a renewed one."""
    renewed = "/etc/grunnfjell/pki/.versions/test"
    host.check_output(f"cp -aL /etc/grunnfjell/pki/application {renewed}")
    # The other certificate is for the host's name too, but for another of its addresses.
    new = serial_of(host, renewed)
    arguments = (inputs["producer_bind"], inputs["producer_health_path"], BUNDLE, IDENTITY, renewed, hostname, new)
    try:
        answers = json.loads(host.check_output("python3 -c %s %s %s %s %s %s %s %s", WATCH, *arguments))
    finally:
        host.check_output(f"rm -rf {renewed}")
    serials = [serial_of(host, f"/etc/grunnfjell/pki/{name}") for name in ("producer", "application", "producer")]
    assert answers == [*([str((200, serial))] for serial in serials), ["200"]]
    assert host.check_output("supervisorctl pid producer:producer_0 producer:producer_1").split() == servers


def serial_of(host, identity: str) -> str:
    return host.check_output(f"openssl x509 -noout -serial -in {identity}/certificate.pem").partition("=")[2]


@pytest.mark.once
def test_only_root_and_one_group_read_the_producer_s_key(host, inputs):
    assert host.check_output(f"stat -L -c '%U %G %a' {IDENTITY}/key.pem") == f"root {inputs['producer_key_group']} 640"


def test_only_nginx_reaches_the_web_servers(host, inputs):
    assert host.check_output("stat -c '%F %U %G %a' /run/grunnfjell-producer.sock") == "socket root nginx 660"
    assert inputs["application_user"] not in host.check_output("getent group nginx")


def test_the_application_does_not_run_as_nginx(host, inputs):
    """Neither may read the other's memory, nor what clients are still sending."""
    workers = host.check_output("pgrep -P $(cat /run/grunnfjell-nginx/nginx.pid)").split()
    accounts = set(host.check_output(f"ps -o user= -p {','.join(workers)}").split())
    assert len(workers) == 2 and accounts == {"nginx"} and inputs["application_user"] != "nginx"
    assert host.check_output("stat -c '%U %a' /var/lib/nginx/body") == "nginx 700"


def test_the_producer_logs_the_address_of_its_client(host, inputs, health_url):
    """Over IPv4 and IPv6, although the web servers only see nginx. What a client claims to be does not count."""
    address = inputs["producer_bind"].rpartition(":")[0].strip("[]")
    host.check_output(f"curl -sf --cacert {BUNDLE} -H 'X-Forwarded-For: 192.0.2.9' -o /dev/null '{health_url}'")
    log = f"{inputs['producer_log_directory']}/producer_*.log"
    lines = [line for line in host.check_output(f"cat {log}").splitlines() if '"GET ' in line]
    assert lines and lines[-1].split()[0] == address, lines[-1:]


def test_the_producer_listens_only_where_the_inventory_says(host, inputs):
    port = inputs["producer_bind"].rpartition(":")[2]
    assert {line.split()[3] for line in host.check_output(f"ss -ltnH 'sport = :{port}'").splitlines()} == {
        inputs["producer_bind"]
    }


def test_a_stop_leaves_time_to_answer_an_upload(host, inputs):
    section = host.check_output("cat /etc/supervisor/conf.d/producer.conf")
    assert f"stopwaitsecs={inputs['producer_stopwaitsecs']}" in section
    assert inputs["producer_graceful_timeout"] < inputs["producer_stopwaitsecs"]


@pytest.mark.once
def test_the_producer_keeps_no_connection_that_needs_heartbeats(host, inputs):
    assert "broker_heartbeat = 0" in host.file(f"/etc/{inputs['application_name']}/grunnfjell_settings.py").content_string


def test_the_producer_waits_for_the_broker_s_confirms(host, inputs):
    """Review finding 7. In the loaded settings of each Celery application that uses the platform's broker."""
    run = f"/opt/{inputs['application_name']}/current/run"
    module = inputs["producer_wsgi_app"].partition(":")[0]
    command = f"{run} python -m grunnfjell_account clients {inputs['application_celery_app']} acks_late {module}"
    applications = json.loads(host.check_output(f"runuser -u {inputs['application_user']} -- {command}").splitlines()[-1])[
        "clients"
    ]
    assert applications
    for name, client in applications:
        conf = client["conf"]
        options, waivers = conf["broker_transport_options"], inputs["application_waivers"]
        assert options["confirm_publish"] or "broker_transport_options" in waivers, name
        assert not conf["task_always_eager"] or "task_always_eager" in waivers, name
        assert conf["task_default_queue_type"] == "quorum" or "task_default_queue_type" in waivers, name
