"""A broker that cannot work is refused before anything is changed."""

import socket

import pytest
from ansible_collections.grunnfjell.platform.plugins.module_utils import rabbitmq_refusals as refusals

COOKIE = "0123456789abcdef0123456789abcdef"
SOUND = {
    "vhosts": [{"name": "shop"}],
    "vhosts_removed": [],
    "users": [{"name": "shop", "permissions": [{"vhost": "shop"}]}],
    "passwords": {"shop": "correct horse battery"},
    "policies": [{"vhost": "shop", "name": "short"}],
}


def objects(**changes):
    return list(refusals.object_refusals(**{**SOUND, **changes}))


def test_a_sound_declaration_is_not_refused():
    assert objects() == []
    assert list(refusals.cookie_refusals(COOKIE)) == []


@pytest.mark.parametrize(
    ("cookie", "says"),
    [
        ("ABCDEFGHIJKLMNOPQRST", "20 capital letters"),
        ("short", "has 5 characters"),
        ("x" * 256, "has 256 characters"),
        ("with a space 0123456789abcdef", "white space"),
        ("newline-0123456789abcdef\n", "white space"),
    ],
)
def test_a_cookie_that_cannot_work_is_refused_without_showing_it(cookie, says):
    (sentence,) = refusals.cookie_refusals(cookie)
    assert says in sentence and "rabbitmq_erlang_cookie" in sentence and cookie not in sentence


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"vhosts": [{"name": "shop"}, {"name": "shop"}]}, "rabbitmq_vhosts names 'shop' twice"),
        ({"users": SOUND["users"] * 2}, "rabbitmq_users names 'shop' twice"),
        ({"policies": SOUND["policies"] * 2}, "rabbitmq_policies names 'shop: short' twice"),
        ({"policies": [{"vhost": "shop", "name": "work_classic"}]}, "'work_classic', which is a policy of the kit"),
        ({"vhosts_removed": ["shop"]}, "rabbitmq_vhosts_removed"),
        ({"passwords": {}}, "'shop' of rabbitmq_users has no password"),
        ({"passwords": {"shop": ""}}, "'shop' of rabbitmq_users has no password"),
        ({"passwords": {"shop": 123456789012}}, "is not a string"),
        ({"passwords": {"shop": "short"}}, "has 5 characters, but needs at least 12"),
        ({"users": [{"name": "guest"}], "passwords": {"guest": "correct horse battery"}}, "well-known default"),
        ({"users": [{"name": "shop", "permissions": [{"vhost": "shpo"}]}]}, "'shpo', which is not in rabbitmq_vhosts"),
        ({"users": [{"name": "shop", "permissions": [{"vhost": "shop"}] * 2}]}, "permissions in 'shop' twice"),
        ({"policies": [{"vhost": "shpo", "name": "short"}]}, "'shpo', which is not in rabbitmq_vhosts"),
    ],
)
def test_a_declaration_that_contradicts_itself_is_refused(changes, says):
    assert [sentence for sentence in objects(**changes) if says in sentence], objects(**changes)


def test_a_password_is_never_in_a_sentence():
    assert "hunter2" not in " ".join(objects(passwords={"shop": "hunter2"}))


def test_a_listener_on_loopback_is_not_refused():
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    assert list(refusals.bindable("rabbitmq_listeners_ssl", "127.0.0.1", port, ours=False)) == []


def test_a_port_of_another_program_is_refused_and_that_of_the_broker_is_not():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        (sentence,) = refusals.bindable("rabbitmq_listeners_ssl", "127.0.0.1", port, ours=False)
        assert f"port {port} on 127.0.0.1" in sentence
        assert list(refusals.bindable("rabbitmq_listeners_ssl", "127.0.0.1", port, ours=True)) == []


@pytest.mark.parametrize(
    ("listeners", "distribution", "says"),
    [
        ([], "127.0.0.1", "rabbitmq_listeners_ssl is empty"),
        (["0.0.0.0:5671"], "127.0.0.1", "every address of the host"),
        (["[::]:5671"], "127.0.0.1", "every address of the host"),
        (["5671"], "127.0.0.1", "which is not address:port"),
        (["localhost:5671"], "127.0.0.1", "which is not address:port"),
        (["127.0.0.1:0"], "127.0.0.1", "which is not address:port"),
        (["127.0.0.1:65536"], "127.0.0.1", "which is not address:port"),
        (["192.0.2.1:5671"], "127.0.0.1", "not an address of this host"),
        (["127.0.0.1:5671"], "0.0.0.0", "rabbitmq_distribution_address holds 0.0.0.0"),
        (["127.0.0.1:5671"], "192.0.2.1", "not an address of this host"),
        (["127.0.0.1:5671"], "here", "which is not an address"),
    ],
)
def test_an_address_that_cannot_work_is_refused(listeners, distribution, says):
    sentences = list(refusals.address_refusals(listeners, distribution, ours=True))
    assert [sentence for sentence in sentences if says in sentence], sentences


def test_ipv6_listeners_are_read():
    assert refusals.split_listener("[fd00::1]:5671") == ("fd00::1", 5671)


def test_a_disk_smaller_than_the_limit_is_refused_with_both_numbers(tmp_path):
    assert list(refusals.disk_refusals(tmp_path / "not" / "there", 1)) == []
    (sentence,) = refusals.disk_refusals(tmp_path / "not" / "there", 2**60)
    assert str(2**60) in sentence and "free" in sentence and "rabbitmq_disk_free_limit" in sentence


def test_a_broker_with_data_is_checked_against_the_whole_disk(tmp_path):
    (tmp_path / "mnesia").mkdir()
    (sentence,) = refusals.disk_refusals(tmp_path, 2**60)
    assert "in all" in sentence


FLAGS_OF_3_10 = (
    "[classic_mirrored_queue_version,implicit_default_bindings,\n maintenance_mode_status,quorum_queue,stream_queue].\n"
)
FLAGS_OF_4_0 = "[classic_mirrored_queue_version,\n message_containers,\n 'rabbitmq_4.0.0'].\n"


@pytest.mark.parametrize(
    ("flags", "series", "refused"),
    [(FLAGS_OF_3_10, "4.0", True), (FLAGS_OF_4_0, "4.0", False), (FLAGS_OF_3_10, "3.10", False), (None, "4.0", False)],
)
def test_data_of_3_x_is_refused_under_4_x_with_a_remedy(tmp_path, flags, series, refused):
    (tmp_path / "mnesia").mkdir()
    if flags is not None:
        (tmp_path / "mnesia" / "rabbit@mq-1-feature_flags").write_text(flags)
    sentences = list(refusals.data_refusals(tmp_path, series, ["rabbit@mq-1"]))
    assert bool(sentences) is refused
    if refused:
        assert "fresh host" in sentences[0]


@pytest.mark.parametrize("path", ["rabbitmq.config", "advanced.config", "conf.d/90-mine.conf"])
def test_a_file_that_silently_overrides_the_configuration_is_refused(tmp_path, path):
    file = tmp_path / "etc/rabbitmq" / path
    file.parent.mkdir(parents=True)
    assert list(refusals.configuration_refusals(tmp_path)) == []
    file.write_text("[].\n")
    (sentence,) = refusals.configuration_refusals(tmp_path)
    assert f"/etc/rabbitmq/{path}" in sentence


def test_removing_a_virtual_host_with_messages_is_refused():
    def refused(*removed, usage=(3, 0)):
        return list(refusals.removal_refusals({"shop", "old"}, [{"name": "shop"}], list(removed), lambda name: usage))

    (sentence,) = refused()
    assert "'old' is not in rabbitmq_vhosts any more, but its queues hold 3 messages" in sentence
    assert refused(usage=(0, 2)) and not refused(usage=(0, 0))
    # Review finding 32.
    assert "does not report" in refused(usage=None)[0]
    assert refused("old") == []


def test_only_virtual_hosts_of_the_node_of_the_host_count(tmp_path):
    for node, name in (("rabbit@mq-1", "shop"), ("rabbit@elsewhere", "old")):
        home = tmp_path / f"mnesia/{node}/msg_stores/vhosts/1"
        home.mkdir(parents=True)
        (home / ".vhost").write_text(name)
    assert refusals.rabbitmq_node.virtual_hosts(tmp_path, "rabbit@mq-1") == {"shop"}


def test_a_plugin_that_is_not_in_the_package_is_refused(tmp_path, monkeypatch):
    missing = refusals.rabbitmq_settings.missing_plugins
    assert missing(["rabbitmq_prometheus"], tmp_path) == []  # not installed yet
    (tmp_path / "lib/rabbitmq_server-4.0.5/plugins/rabbitmq_prometheus-4.0.5").mkdir(parents=True)
    assert missing(["rabbitmq_prometheus", "rabbitmq_prometeus"], tmp_path) == ["rabbitmq_prometeus"]
    (sentence,) = refusals.settings_refusals({}, ["Prometheus; rm"], installed=False)
    assert "not a plugin's name" in sentence


def test_a_setting_that_the_broker_refuses_is_refused_with_its_message(monkeypatch):
    monkeypatch.setattr(refusals.rabbitmq_settings, "problems", lambda parameters, plugins: ["unknown variable: chanel_max"])
    (sentence,) = refusals.settings_refusals({"chanel_max": 1}, [], installed=True)
    assert "unknown variable: chanel_max" in sentence
    assert list(refusals.settings_refusals({"chanel_max": 1}, [], installed=False)) == []
