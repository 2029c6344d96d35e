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
  waived_queues: {description: Queue that may lose jobs to the reason., type: dict, default: {}}
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
from ..module_utils.queue_faults import faults, names, unconsumed, wait_for_consumers


def findings(
    answer: dict,
    inventory: list[str],
    consumed: list[str],
    sent: dict[str, str],
    waivers: dict,
    waived_queues: dict | None = None,
    time_limit: int | None = None,
) -> list[str]:
    """Sentences for what is wrong with these queues and not waived."""
    used = {*inventory, *consumed, *sent}
    sentences = [
        f"{fault['text']}, or name {names(queue)[0]} with a reason in application_waived_queues."
        for queue in answer["queues"]
        if not used.isdisjoint(names(queue)) and set(names(queue)).isdisjoint(waived_queues or {})
        for fault in faults(queue, answer["version"], time_limit)
        if fault["setting"] not in waivers
    ]
    waiver = ", or waive {setting} with a reason in application_waivers"
    return sentences + [
        f"{fault['text']}{waiver.format(**fault) if fault['setting'] else ''}."
        for fault in unconsumed(answer, sent, consumed)
        if fault["setting"] not in waivers
    ]


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "vhost": {"type": "str", "required": True},
            "names": {"type": "list", "elements": "str", "default": []},
            "consumed": {"type": "list", "elements": "str", "default": []},
            "sent": {"type": "dict", "default": {}},
            "waivers": {"type": "dict", "default": {}},
            "time_limit": {"type": "int"},
            "waived_queues": {"type": "dict", "default": {}},
            "wait": {"type": "int", "default": 0},
        },
        supports_check_mode=True,
    )
    asked = module.params
    try:
        answer = wait_for_consumers(asked["vhost"], asked["sent"], asked["consumed"], asked["wait"])
    except rabbitmq_cli.CliError as error:
        module.exit_json(changed=False, answered=False, sentences=[str(error)])
    question = (asked[key] for key in ("names", "consumed", "sent", "waivers", "waived_queues", "time_limit"))
    sentences = findings(answer, *question)
    module.exit_json(changed=False, answered=True, sentences=sentences)


if __name__ == "__main__":
    main()
