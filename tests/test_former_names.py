"""A renamed input keeps working, and a warning names the new one."""

from ansible_collections.grunnfjell.platform.plugins.plugin_utils.fleet.former_names import former_names
from ansible_collections.grunnfjell.platform.plugins.plugin_utils.fleet.model import Fleet, Host


def warned(**inputs: object) -> list[str]:
    return list(former_names(Fleet({"mq1": Host("mq1", frozenset({"rabbitmq"}), inputs=inputs)}, {"rabbitmq": ("rabbitmq",)})))


def test_a_former_name_is_warned_about() -> None:
    (sentence,) = warned(rabbitmq_hipe_compile=False, rabbitmq_require_native_code=False)
    assert sentence.startswith("rabbitmq_hipe_compile is now rabbitmq_require_native_code. Rename it in the inventory:")


def test_sites_that_are_declared_by_their_former_name_are_warned_about() -> None:
    (sentence,) = warned(topology_places=[])
    assert sentence.startswith("topology_places is now topology_sites.")


def test_the_former_command_of_a_release_is_warned_about() -> None:
    (sentence,) = warned(application_migrate_command=["migrate"])
    assert sentence.startswith("application_migrate_command is now application_release_commands (a list of commands). Rename it")


def test_the_present_name_is_not_warned_about() -> None:
    assert warned(rabbitmq_require_native_code=False) == []
