"""What role rabbitmq promises, asked of the running broker."""

from __future__ import annotations

import contextlib
import json
import secrets
import ssl
import time

import pytest
from amqp_probe import Connection, Refused
from authority import stranger
from broker_tunnel import Dial
from deadline import until
from playbook_runner import play

testinfra_hosts = ["ansible://rabbitmq"]

EVERYWHERE = ("0.0.0.0", "*", "[::]")
PORTS_OF_NODES = ("4369", "25672")


@pytest.fixture
def reader(ctl, connect, application):
    """Somebody who may read the dead letters, as no application may. Lives for one test; a converge would delete him too."""
    name, password = f"reader-{secrets.token_hex(4)}", secrets.token_hex(16)
    ctl("add_user", name, password)
    try:
        ctl("set_permissions", "-p", application["vhost"], name, "", "", "^dead_letters$")
        with connect(name, password, application["vhost"]) as connection:
            yield connection
    finally:
        ctl("delete_user", name)


def listening(host) -> list[tuple[str, str]]:
    """Address and port of everything that listens."""
    return [tuple(line.split()[3].rsplit(":", 1)) for line in host.check_output("ss -ltnH").splitlines()]


def in_force(ctl, application: str, key: str) -> int:
    return int(ctl("eval", f"{{ok, V}} = application:get_env({application}, {key}), V."))


def test_the_broker_runs_and_comes_back_at_boot(host, status):
    service = host.service("rabbitmq-server")
    assert service.is_running
    assert service.is_enabled
    assert status["alarms"] == []


def test_publishers_are_held_back_at_the_promised_share_of_the_real_memory(status, inputs, memory):
    promised = int(memory * inputs["rabbitmq_vm_memory_high_watermark"])
    assert abs(status["vm_memory_high_watermark_limit"] - promised) <= 1
    assert status["vm_memory_high_watermark_setting"] == {"absolute": status["vm_memory_high_watermark_limit"]}


def test_publishers_are_held_back_while_what_is_in_memory_still_fits_the_disk(status, inputs, memory):
    assert abs(status["disk_free_limit"] - int(memory * inputs["rabbitmq_disk_free_limit"])) <= 1
    assert status["disk_free"] > status["disk_free_limit"]


@pytest.mark.once
def test_the_broker_runs_as_native_code(ctl, inputs):
    if not inputs["rabbitmq_require_native_code"]:
        pytest.skip("rabbitmq_require_native_code: false demands none")
    assert ctl("eval", "erlang:system_info(emu_flavor).") == "jit"


def test_a_long_task_keeps_its_delivery(ctl, inputs):
    assert in_force(ctl, "rabbit", "consumer_timeout") == inputs["rabbitmq_consumer_timeout"]


def test_the_quorum_queues_log_is_no_larger_than_the_host_bears(ctl, memory):
    wal = in_force(ctl, "ra", "wal_max_size_bytes")
    assert wal <= max(16 * 2**20, memory // 32)


def test_nothing_of_the_broker_listens_on_every_address(host, inputs):
    ports = {*PORTS_OF_NODES, *(listener.rsplit(":", 1)[1] for listener in inputs["rabbitmq_listeners_ssl"])}
    assert [place for place in listening(host) if place[1] in ports and place[0] in EVERYWHERE] == []


def test_clients_are_served_exactly_where_the_inventory_says(host, ctl, inputs):
    served = {
        f"{listener['interface']}:{listener['port']}"
        for listener in json.loads(host.check_output("rabbitmq-diagnostics --quiet listeners --formatter json </dev/null"))[
            "listeners"
        ]
        if listener["protocol"].startswith("amqp")
    }
    assert served == set(inputs["rabbitmq_listeners_ssl"])


def test_amqp_in_the_clear_is_refused(dial, place):
    """On the port that the broker has, and on the one that AMQP in the clear is known by."""
    address, port = place
    with dial((address, port), timeout=10) as raw:
        raw.sendall(b"AMQP\x00\x00\x09\x01")
        with contextlib.suppress(ConnectionError):
            assert raw.recv(7)[:1] in (b"", b"\x15")  # the end, or TLS's own word for it: no frame of AMQP
    with pytest.raises(ConnectionRefusedError):
        dial((address, 5672), timeout=10)


def shut_out(dial: Dial, place: tuple[str, int], application: dict[str, str], tls: ssl.SSLContext) -> str:
    """What keeps a client out before it comes to say who it is."""
    with pytest.raises((ssl.SSLError, ConnectionError, Refused)) as kept:
        Connection(*place, **application, tls=tls, timeout=10, dial=dial)
    assert "ACCESS_REFUSED" not in str(kept.value)
    return str(kept.value)


def test_a_client_without_a_certificate_is_refused_whatever_password_it_has(dial, place, application, authority):
    shut_out(dial, place, application, authority.context(None))


def test_a_client_of_another_authority_is_refused(dial, place, application, authority, tmp_path):
    shut_out(dial, place, application, authority.context(stranger(tmp_path / "stranger").issue("client")))


def test_a_client_whose_certificate_ran_out_is_refused(dial, place, application, authority):
    shut_out(dial, place, application, authority.context(authority.issue("late", days=1, ago_days=3)))


def test_a_broker_of_another_authority_is_refused(dial, place, application, authority, tmp_path):
    other = stranger(tmp_path / "stranger")
    assert "certificate verify failed" in shut_out(dial, place, application, other.context(authority.issue("client")))


def test_the_broker_is_believed_at_its_own_address_and_at_no_other(host, dial, place, authority, inputs):
    """By its inventory name and its address; whoever it is, it is not another host of the fleet."""
    context, (address, port) = authority.context(authority.issue("client")), place
    for name in (address, host.backend.get_hostname()):
        with dial((address, port), timeout=10) as raw, context.wrap_socket(raw, server_hostname=name):
            pass
    for name in ("10.255.255.254", "another-host"):
        refused = pytest.raises(ssl.SSLCertVerificationError, match=r"mismatch|not valid for")
        with dial((address, port), timeout=10) as raw, refused:
            context.wrap_socket(raw, server_hostname=name)


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_both_current_versions_of_tls_are_spoken(dial, place, authority, version):
    context = authority.context(authority.issue("client"))
    context.minimum_version = context.maximum_version = version
    with dial(place, timeout=10) as raw, context.wrap_socket(raw, server_hostname=place[0]) as wrapped:
        assert wrapped.version() == version.name.replace("_", ".")
        assert "GCM" in wrapped.cipher()[0] or "CHACHA20" in wrapped.cipher()[0]


def test_no_old_version_of_tls_is_spoken(dial, place, authority):
    context = authority.context(authority.issue("client"))
    context.set_ciphers("ALL:@SECLEVEL=0")
    context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_1
    with dial(place, timeout=10) as raw, pytest.raises((ssl.SSLError, ConnectionError)):
        context.wrap_socket(raw, server_hostname=place[0])


@pytest.mark.once
@pytest.mark.disruptive
def test_a_new_certificate_is_shown_at_once_and_cuts_no_connection(host, request, dial, place, session, queue, client):
    def shown() -> bytes:
        with dial(place, timeout=10) as raw, client.wrap_socket(raw, server_hostname=place[0]) as wrapped:
            return wrapped.getpeercert(binary_form=True)

    before, name = shown(), host.backend.get_hostname()
    renewed = play(request.config.option.ansible_inventory, "playbooks/pki.yml", "--limit", name, "-e", "pki_renew=true")
    assert renewed.returncode == 0, renewed.printed
    assert shown() != before
    assert session.publish(queue, "on the connection from before") == "ack"


def test_nodes_and_tools_are_served_on_the_distribution_address_alone(host, inputs):
    places = {address for address, port in listening(host) if port in PORTS_OF_NODES}
    assert places <= {"127.0.0.1", inputs["rabbitmq_distribution_address"]}


def test_the_broker_has_its_descriptors(host, inputs):
    pid = host.check_output("systemctl show --property=ExecMainPID --value rabbitmq-server")
    allowed, ceiling = (
        int(host.check_output(f"awk '/^Max open files/ {{ print ${column} }}' /proc/{process}/limits"))
        for process, column in ((pid, 4), (1, 5))
    )
    assert allowed == min(inputs["rabbitmq_nofile"], ceiling)


def test_a_stop_may_take_its_time(host, inputs):
    granted = host.check_output("systemctl show --property=TimeoutStopUSec --value rabbitmq-server")
    in_seconds = {"h": 3600, "min": 60, "s": 1}
    total = sum(int(part.rstrip("hmins")) * in_seconds[part.lstrip("0123456789")] for part in granted.split())
    assert total == inputs["rabbitmq_timeout_stop_sec"]


@pytest.mark.once
def test_only_the_broker_reads_the_cookie(host, inputs):
    cookie = host.file("/var/lib/rabbitmq/.erlang.cookie")
    assert (cookie.user, cookie.group, cookie.mode) == ("rabbitmq", "rabbitmq", 0o400)
    assert cookie.content_string == inputs["rabbitmq_erlang_cookie"]


@pytest.mark.once
def test_no_password_or_hash_is_left_in_a_file(host):
    assert host.check_output("ls /run").count("rabbitmq-definitions-") == 0


@pytest.mark.once
def test_the_plugins_are_those_declared_and_no_other(host, inputs):
    enabled = host.check_output("rabbitmq-plugins --quiet list -E --minimal </dev/null").split()
    assert sorted(enabled) == sorted(inputs["rabbitmq_plugins"])


@pytest.mark.once
def test_a_key_that_the_role_does_not_name_is_in_force(ctl, inputs):
    if "channel_max" not in inputs["rabbitmq_parameters"]:
        pytest.skip("rabbitmq_parameters does not name channel_max")
    assert in_force(ctl, "rabbit", "channel_max") == inputs["rabbitmq_parameters"]["channel_max"]


def test_the_users_are_those_declared_and_no_other(ctl, inputs):
    assert {user["user"] for user in ctl("list_users", parse=True)} == {user["name"] for user in inputs["rabbitmq_users"]}


def test_the_virtual_hosts_are_those_declared_and_no_other(ctl, inputs):
    assert {vhost["name"] for vhost in ctl("list_vhosts", parse=True)} == {vhost["name"] for vhost in inputs["rabbitmq_vhosts"]}


@pytest.mark.once
def test_the_application_logs_in_and_is_told_the_heartbeat(connect, application, inputs):
    with connect(**application) as connection:
        assert connection.heartbeat == inputs["rabbitmq_heartbeat"]


@pytest.mark.once
@pytest.mark.parametrize("login", [{"user": "guest", "password": "guest"}, {"password": "wrong"}, {"user": "", "password": ""}])
def test_guest_nobody_and_a_wrong_password_are_refused(connect, application, login):
    with pytest.raises(Refused, match="ACCESS_REFUSED"):
        connect(**{**application, **login})


def test_the_application_may_not_enter_another_virtual_host(connect, application, inputs):
    own = {p["vhost"] for user in inputs["rabbitmq_users"] if user["name"] == application["user"] for p in user["permissions"]}
    others = {vhost["name"] for vhost in inputs["rabbitmq_vhosts"]} - own or {"/"}
    with pytest.raises(Refused, match="NOT_ALLOWED"):
        connect(**{**application, "vhost": others.pop()})


@pytest.mark.once
@pytest.mark.disruptive
@pytest.mark.parametrize("attempt", [lambda c: c.get("dead_letters"), lambda c: c.delete("dead_letters")], ids=["read", "delete"])
def test_the_application_may_not_touch_its_dead_letters(connect, application, attempt):
    with connect(**application) as connection, pytest.raises(Refused, match="ACCESS_REFUSED"):
        attempt(connection)


@pytest.mark.disruptive
@pytest.mark.usefixtures("session")
def test_a_work_queue_is_durable_and_under_the_delivery_limit(ctl, application, inputs, queue):
    queues = ctl("list_queues", "-p", application["vhost"], "name", "type", "durable", "policy", parse=True)
    (mine,) = [q for q in queues if q["name"] == queue]
    assert (mine["type"], mine["durable"], mine["policy"]) == ("quorum", True, "work")
    (policy,) = [p for p in ctl("list_policies", "-p", application["vhost"], parse=True) if p["name"] == "work"]
    definition = policy["definition"] if isinstance(policy["definition"], dict) else json.loads(policy["definition"])
    assert definition["delivery-limit"] == inputs["rabbitmq_delivery_limit"]


@pytest.mark.once
@pytest.mark.disruptive
@pytest.mark.parametrize("name", ["celery_delayed_{}", "{}.celery.pidbox"])
def test_celerys_own_queues_are_allowed_and_not_under_the_policy(connect, application, ctl, queue, name):
    queue = name.format(queue)
    with connect(**application) as connection:
        connection.declare(queue, **{"x-queue-type": "quorum"})
    try:
        queues = ctl("list_queues", "-p", application["vhost"], "name", "policy", parse=True)
        assert [q["policy"] for q in queues if q["name"] == queue] == [""]
    finally:
        with connect(**application) as connection:
            connection.delete(queue)


@pytest.mark.once
@pytest.mark.disruptive
def test_a_job_that_fails_too_often_ends_in_the_dead_letters_and_is_not_lost(session, queue, reader, inputs):
    body = f"poison {secrets.token_hex(8)}"
    assert session.publish(queue, body) == "ack"
    deliveries = 0
    # A job that was put back is not there again at once; it is gone for good once it was delivered a time more than the limit.
    deadline = time.monotonic() + 60
    while deliveries <= inputs["rabbitmq_delivery_limit"] and time.monotonic() < deadline:
        if (delivery := session.get(queue)) is not None:
            session.put_back(delivery[0])
            deliveries += 1
    assert deliveries == inputs["rabbitmq_delivery_limit"] + 1
    assert find(reader, body), "the job is in no queue any more"


@pytest.mark.once
@pytest.mark.disruptive
def test_a_dead_letter_can_be_looked_at_again_and_again(session, queue, reader, inputs):
    body = f"poison {secrets.token_hex(8)}"
    session.publish(queue, body)
    for _ in range(inputs["rabbitmq_delivery_limit"] + 1):
        session.put_back(until("another delivery", lambda: session.get(queue))[0])
    # Longer than RabbitMQ 4 would let a message of a quorum queue be put back by itself.
    for _ in range(25):
        assert find(reader, body, keep=True), "the dead letter vanished while somebody looked at it"
    assert find(reader, body)


def find(reader: Connection, body: str, keep: bool = False) -> bool:
    """Whether the dead letters hold this job. Takes it out, unless it is to be kept; all others go back."""
    seen: list[int] = []

    def look() -> bool:
        while (delivery := reader.get("dead_letters")) is not None:
            tag, found = delivery
            if found == body:
                if keep:
                    seen.append(tag)
                else:
                    reader.ack(tag)
                return True
            seen.append(tag)
        return False

    try:
        return until("the dead letter", look)
    finally:
        for tag in seen:
            reader.put_back(tag)


@pytest.fixture
def after(host, connect, application, queue):
    """Do something to the broker, wait until it was started anew, and take one job out of the queue."""

    def run(command: str) -> str:
        def answers() -> str | None:
            # A queue is elected anew after a start, and until then is refused to everybody.
            try:
                with connect(**application) as connection:
                    if (delivery := connection.get(queue)) is None:
                        return None
                    connection.ack(delivery[0])
                    return delivery[1]
            except (Refused, OSError):
                return None

        show = "systemctl show --property=InvocationID --value rabbitmq-server"
        before = host.check_output(show)
        host.check_output(command)
        until("a new start of the broker", lambda: host.check_output(show) != before)
        return until("the job after the start", answers)

    return run


@pytest.mark.disruptive
@pytest.mark.parametrize(
    "command", ["systemctl restart rabbitmq-server", "systemctl kill --signal=KILL rabbitmq-server"], ids=["restart", "kill"]
)
@pytest.mark.once
def test_a_queue_and_its_job_survive_a_broker_that_is_started_anew(session, queue, host, after, command):
    # The broker writes a new queue's name to the disk some seconds late; killed before that, it forgets the queue.
    names = "find /var/lib/rabbitmq/mnesia -path '*/quorum/*' -name names.dets -exec grep --quiet --text {} {{}} +"
    until("the queue's name on the disk", lambda: host.run(names.format(queue)).rc == 0)
    body = f"durable {secrets.token_hex(8)}"
    assert session.publish(queue, body) == "ack"
    assert after(command) == body
