#!/usr/bin/python3
"""Whether the queues of an application keep its jobs, by what the broker has."""

from __future__ import annotations

DOCUMENTATION = r"""
module: rabbitmq_queues
short_description: Check an application's queues on the broker
description:
  - Reads type, policy, arguments and consumers of the queues, and returns a sentence for each way in which one can lose a job and
    that is not waived. Changes nothing.
  - A queue of I(names) that does not exist yet is not checked. Queues of I(consumed) and I(sent) need a consumer.
options:
  vhost: {description: The application's virtual host., type: str, required: true}
  names: {description: Queues that the inventory names., type: list, elements: str, default: []}
  consumed: {description: Queues that live workers consume., type: list, elements: str, default: []}
  sent: {description: "Queue to the setting that sends jobs to it, C(task_routes) for one.", type: dict, default: {}}
  waivers: {description: Setting to the reason for breaking it., type: dict, default: {}}
  time_limit: {description: Seconds after which the application's tasks are killed., type: int}
  wait: {description: Seconds to wait for consumers., type: int, default: 0}
author: maintainers
"""

EXAMPLES = r"""
- name: Check the queues that the inventory names
  rabbitmq_queues:
    vhost: newsroom
    names: [newsroom, mail]
"""

RETURN = r"""
answered: {description: Whether the broker answered; false on a host without a running broker., type: bool, returned: always}
sentences: {description: What is wrong., type: list, elements: str, returned: always}
"""

from ansible.module_utils.basic import AnsibleModule

from ..module_utils import rabbitmq_cli
from ..module_utils.queue_faults import faults, unconsumed, wait_for_consumers


def findings(
    answer: dict, names: list[str], consumed: list[str], sent: dict[str, str], waivers: dict, time_limit: int | None = None
) -> list[str]:
    """Sentences for what is wrong with these queues and not waived."""
    used, version = {*names, *consumed, *sent}, answer["version"]
    wrong = [fault for queue in answer["queues"] if queue["name"] in used for fault in faults(queue, version, time_limit)]
    wrong += unconsumed(answer, sent, consumed)
    wrong = [fault for fault in wrong if fault["setting"] not in waivers]
    waiver = ", or waive {setting} with a reason in application_waivers"
    return [f"{fault['text']}{waiver.format(**fault) if fault['setting'] else ''}." for fault in wrong]


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "vhost": {"type": "str", "required": True},
            "names": {"type": "list", "elements": "str", "default": []},
            "consumed": {"type": "list", "elements": "str", "default": []},
            "sent": {"type": "dict", "default": {}},
            "waivers": {"type": "dict", "default": {}},
            "time_limit": {"type": "int"},
            "wait": {"type": "int", "default": 0},
        },
        supports_check_mode=True,
    )
    asked = module.params
    try:
        answer = wait_for_consumers(asked["vhost"], asked["sent"], asked["consumed"], asked["wait"])
    except rabbitmq_cli.CliError as error:
        module.exit_json(changed=False, answered=False, sentences=[str(error)])
    sentences = findings(answer, asked["names"], asked["consumed"], asked["sent"], asked["waivers"], asked["time_limit"])
    module.exit_json(changed=False, answered=True, sentences=sentences)


if __name__ == "__main__":
    main()
