"""A broker gets exactly what is declared, and a second run changes nothing."""

import copy
import json
import re

import pytest
from ansible_collections.grunnfjell.platform.plugins.module_utils import rabbitmq_objects as objects
from ansible_collections.grunnfjell.platform.plugins.modules import rabbitmq_definitions as definitions
from hypothesis import given
from hypothesis import strategies as st

# What a Debian 13 broker exports for the user below.
EXPORTED_HASH = "R8Pal0vj5JNfyqKae29uyDDJWmCoOvkkVUjsRrmCc7fvojsz"

PARAMS = {
    "vhosts": [{"name": "shop"}],
    "vhosts_removed": [],
    "users": [{"name": "shop", "tags": [], "permissions": [{"vhost": "shop"}]}],
    "user_passwords": {"shop": "correct horse battery"},
    "policies": [],
    "delivery_limit": 20,
}


def broker_after(have, changed, removals=()):
    """The broker's definitions after an import and deletions, as it would export them."""
    result = copy.deepcopy(have)
    for kind, things in changed.items():
        kept = objects.indexed(kind, result)
        for thing in copy.deepcopy(things):
            if kind == "users":
                thing["tags"] = [tag for tag in thing["tags"].split(",") if tag]
                thing["limits"] = {}
            kept[objects.identity(kind, thing)] = thing
        result[kind] = list(kept.values())
    for kind, key in removals:
        result[kind] = [thing for thing in result[kind] if objects.identity(kind, thing) != key]
    return result


def converge(params, have, version="4.0.5"):
    want = objects.wanted(params, version)
    changed = objects.upserts(want, have)
    return changed, list(objects.prunes(want, have))


@pytest.fixture
def have():
    """The definitions of a broker that was converged once."""
    return broker_after({}, converge(PARAMS, {})[0])


def test_a_hash_of_a_real_broker_is_recognised():
    user = {"password_hash": EXPORTED_HASH, "hashing_algorithm": "rabbit_password_hashing_sha256"}
    assert objects.password_matches("guest", user)
    assert not objects.password_matches("Guest", user)


@given(st.text(min_size=1), st.text(min_size=1), st.binary(min_size=4, max_size=4))
def test_a_hash_matches_only_its_password(password, other, salt):
    user = definitions.rabbitmq_cli.password_hash(password, salt)
    assert objects.password_matches(password, user)
    assert objects.password_matches(other, user) is (other == password)


@pytest.mark.parametrize(
    "user", [{}, {"password_hash": ""}, {"password_hash": EXPORTED_HASH, "hashing_algorithm": "rabbit_password_hashing_md5"}]
)
def test_a_user_without_a_valid_hash_matches_nothing(user):
    assert not objects.password_matches("guest", user)


@pytest.mark.parametrize("version", ["3.10.8", "4.0.5"])
def test_a_second_run_changes_nothing(version):
    changed, removals = converge(PARAMS, {}, version)
    assert removals == []
    assert set(changed) == set(objects.KEYS)
    assert converge(PARAMS, broker_after({}, changed), version) == ({}, [])


def test_a_new_password_changes_only_the_user(have):
    changed, removals = converge(PARAMS | {"user_passwords": {"shop": "another horse"}}, have)
    assert [*changed] == ["users"]
    assert removals == []


def test_a_new_tag_changes_only_the_user_and_keeps_the_password(have):
    params = PARAMS | {"users": [{**PARAMS["users"][0], "tags": ["monitoring", "administrator"]}]}
    changed, _ = converge(params, have)
    assert [*changed] == ["users"]
    assert changed["users"][0]["tags"] == "administrator,monitoring"
    assert objects.password_matches("correct horse battery", changed["users"][0])


def test_guest_and_everything_undeclared_is_removed(have):
    have["users"].append({"name": "guest", "tags": ["administrator"], "password_hash": EXPORTED_HASH})
    have["permissions"] += [
        {"user": "guest", "vhost": "/", "configure": ".*", "write": ".*", "read": ".*"},
        {"user": "shop", "vhost": "/", "configure": ".*", "write": ".*", "read": ".*"},
        {"user": "shop", "vhost": "radio", "configure": ".*", "write": ".*", "read": ".*"},
    ]
    have["vhosts"].append({"name": "/"})
    have["policies"].append({"vhost": "shop", "name": "old", "pattern": "", "apply-to": "all", "priority": 0, "definition": {}})
    have["policies"].append({"vhost": "/", "name": "old", "pattern": "", "apply-to": "all", "priority": 0, "definition": {}})
    changed, removals = converge(PARAMS, have)
    assert changed == {}
    # The broker deletes the rest with its user or its virtual host.
    assert removals == [
        ("policies", ("shop", "old")),
        ("permissions", ("shop", "radio")),
        ("users", ("guest",)),
        ("vhosts", ("/",)),
    ]


def test_queues_of_a_declared_virtual_host_are_never_deleted(have):
    have["queues"].append({"vhost": "shop", "name": "old", "durable": True, "auto_delete": False, "arguments": {}})
    assert converge(PARAMS, have) == ({}, [])


def test_dead_letters_of_another_type_are_refused_by_name(have):
    have["queues"][0]["arguments"] = {"x-queue-type": "classic"}
    with pytest.raises(objects.Refusal, match="'shop' has the queue 'dead_letters'"):
        converge(PARAMS, have)


def test_a_user_without_a_password_is_refused_by_name():
    with pytest.raises(objects.Refusal, match="'shop' has no password"):
        converge(PARAMS | {"user_passwords": {}}, {})


def test_a_virtual_host_in_use_is_removed_only_when_it_is_also_declared_as_removed():
    """Review finding 32: a queue of unknown length is not empty."""
    in_use = {"full": (3, 0), "served": (0, 2), "silent": None, "idle": (0, 0), "doomed": (9, 9)}
    sentences = list(definitions.held_back([*in_use], ["doomed"], in_use.__getitem__))
    assert [re.findall("'(.+?)'", sentence)[0] for sentence in sentences] == ["full", "served", "silent"]
    assert "does not report" in sentences[2]
    assert "hold 3 messages" in sentences[0]
    assert "rabbitmq_vhosts_removed" in sentences[0]


def policies(version, **changes):
    return {policy["name"]: policy for policy in objects.wanted(PARAMS | changes, version)["policies"]}


@pytest.mark.parametrize("version", ["3.10.8", "4.0.5"])
def test_every_work_queue_has_a_delivery_limit_and_dead_letters_without_loss(version):
    definition = policies(version, delivery_limit=7)["work"]["definition"]
    assert definition == {
        "delivery-limit": 7,
        "dead-letter-exchange": "dead_letters",
        "dead-letter-strategy": "at-least-once",
        "overflow": "reject-publish",
    }


@pytest.mark.parametrize("version", ["3.10.8", "4.0.5"])
def test_a_classic_queue_has_dead_letters_by_a_policy_of_lower_priority(version):
    """A policy with a key that classic queues lack does not apply to them, so each key here is one that they know."""
    kit = policies(version)
    classic = kit["work_classic"]
    assert classic["definition"] == {"dead-letter-exchange": "dead_letters", "overflow": "reject-publish"}
    assert classic["priority"] < kit["work"]["priority"], "a quorum queue would lose its delivery limit"
    assert {policy["apply-to"] for policy in kit.values()} == {"queues"}, "3.10 knows no type of queue in apply-to"


@pytest.mark.parametrize(
    ("queue", "covered"),
    [
        ("newsroom", True),
        ("cache.broadcast", True),
        ("bcast.4ea6a4e4-1c7c-3d7a-9d5c-0a4b6a6b2f0e", False),
        ("replies-4ea6a4e4-1c7c-3d7a-9d5c-0a4b6a6b2f0e", False),
        ("4ea6a4e4-1c7c-3d7a-9d5c-0a4b6a6b2f0e", False),
        ("dead_letters", False),
        ("w@h.celery.pidbox", False),
        ("celeryev.1", False),
        ("amq.gen-JzTY20BRgKO-HjmUJj0wLg", False),
    ],
)
def test_the_policy_of_classic_queues_leaves_out_the_queues_of_one_process(queue, covered):
    assert bool(re.search(objects.CLASSIC_QUEUES, queue)) is covered


def test_dead_letters_may_be_read_any_number_of_times():
    # 3.10 has no limit by itself, and refuses -1.
    assert "dead_letters" not in policies("3.10.8")
    assert policies("4.0.5")["dead_letters"]["definition"] == {"delivery-limit": -1}
    assert re.search(policies("4.0.5")["dead_letters"]["pattern"], "dead_letters")


@pytest.mark.parametrize("queue", ["newsroom", "celery", "video.high", "dead_letters_of_mine", "w"])
def test_the_policy_covers_a_work_queue(queue):
    assert re.search(objects.WORK_QUEUES, queue)


@pytest.mark.parametrize(
    "queue",
    [
        "dead_letters",
        *(f"celery_delayed_{level}" for level in range(28)),
        "celery_delayed_delivery",
        "worker1@host.celery.pidbox",
        "4ea6a4e4-1c7c-3d7a-9d5c-0a4b6a6b2f0e.reply.celery.pidbox",
        "celeryev.4ea6a4e4-1c7c-3d7a-9d5c-0a4b6a6b2f0e",
        "4ea6a4e4-1c7c-3d7a-9d5c-0a4b6a6b2f0e",
        "amq.gen-JzTY20BRgKO-HjmUJj0wLg",
    ],
)
def test_the_policy_leaves_out_internal_queues_of_celery(queue):
    assert not re.search(objects.WORK_QUEUES, queue)


@pytest.mark.parametrize(
    "thing", ["newsroom", "celery_delayed_27", "celery_delayed_delivery", "x.celery.pidbox", "amq.default", "reply.celery.pidbox"]
)
def test_an_application_may_use_what_celery_creates(thing):
    assert re.search(objects.PERMITTED, thing)


def test_an_application_may_not_touch_its_dead_letters():
    assert not re.search(objects.PERMITTED, "dead_letters")


def test_a_declared_policy_for_queues_keeps_the_promised_limits_that_it_does_not_set():
    given_policy = {"vhost": "shop", "name": "short", "pattern": "^short", "definition": {"max-length": 10, "delivery-limit": 3}}
    policy = policies("4.0.5", policies=[given_policy])["short"]
    assert policy["definition"] == {**objects.TO_DEAD_LETTERS, "max-length": 10, "delivery-limit": 3}
    assert policy["priority"] == 1
    given_policy |= {"apply_to": "exchanges", "definition": {"alternate-exchange": "x"}}
    assert policies("4.0.5", policies=[given_policy])["short"]["definition"] == {"alternate-exchange": "x"}


def test_no_diff_shows_a_password_or_a_hash(have):
    params = PARAMS | {"user_passwords": {"shop": "another horse"}}
    want = objects.wanted(params, "4.0.5")
    changed = objects.upserts(want, have)
    text = json.dumps(objects.difference(want, have, changed))
    assert "password of shop: (changed)" in text
    hashes = (definition["users"][0]["password_hash"] for definition in (have, changed))
    assert not [secret for secret in ("another horse", "correct horse battery", *hashes) if secret in text]


def test_a_diff_without_a_change_is_empty(have):
    difference = objects.difference(objects.wanted(PARAMS, "4.0.5"), have, {})
    assert difference["before"] == difference["after"]


names = st.sampled_from(["a", "b", "c"])


@given(st.lists(names, unique=True), st.lists(names, unique=True), st.lists(names, unique=True), st.lists(names, unique=True))
def test_one_run_leads_from_any_declaration_to_any_other(old_vhosts, old_users, new_vhosts, new_users):
    def declaration(vhosts, users):
        return PARAMS | {
            "vhosts": [{"name": name} for name in vhosts],
            "users": [{"name": name, "tags": [], "permissions": [{"vhost": vhost} for vhost in vhosts]} for name in users],
            "user_passwords": {name: f"password of {name}" for name in users},
        }

    have = broker_after({}, converge(declaration(old_vhosts, old_users), {})[0])
    changed, removals = converge(declaration(new_vhosts, new_users), have)
    after = broker_after(have, changed, removals)
    # The broker deletes permissions and policies with their user or virtual host.
    for kind in ("permissions", "policies"):
        after[kind] = [t for t in after.get(kind, []) if t["vhost"] in new_vhosts and t.get("user", "a") in [*new_users, "a"]]
    after["permissions"] = [t for t in after["permissions"] if t["user"] in new_users]
    assert converge(declaration(new_vhosts, new_users), after) == ({}, [])


@pytest.mark.parametrize("check_mode", [True, False])
@pytest.mark.parametrize("disabled", [["stream_queue", "khepri_db"], ["khepri_db"]])
def test_only_the_feature_flag_that_dead_letters_need_is_enabled(monkeypatch, have, disabled, check_mode):
    """Review finding 37."""
    calls = []
    monkeypatch.setattr(definitions, "installed", lambda: True)
    monkeypatch.setattr(definitions, "read", lambda: {"definitions": have, "flavour": "jit", "flags": disabled})
    monkeypatch.setattr(definitions.rabbitmq_cli, "call", lambda *arguments: calls.append(arguments))
    result = definitions.run({**PARAMS, "native_code": True, "series": "4.0"}, check_mode)
    wanted = "stream_queue" in disabled
    assert result["actions"] == (["enable feature flag: stream_queue"] if wanted else [])
    assert result["changed"] is wanted
    assert calls == ([("enable_feature_flag", "stream_queue")] if wanted and not check_mode else [])
