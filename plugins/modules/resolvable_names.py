#!/usr/bin/python3
"""Checks that a host can resolve each name that its inputs hold."""

from __future__ import annotations

DOCUMENTATION = r"""
module: resolvable_names
short_description: Refuse a name that the host cannot resolve
description: Uses the host's resolver, files and DNS alike. Changes nothing.
options:
  names: {description: 'Name to the input that holds it, for the sentence.', type: dict, required: true}
author: maintainers
"""

EXAMPLES = r"""
- name: Refuse a name that the host cannot resolve
  resolvable_names:
    names: {db.example.net: pgbouncer_databases}
"""

RETURN = r"""
refusals: {description: The sentences., returned: failure, type: list, elements: str}
"""

import socket

from ansible.module_utils.basic import AnsibleModule


def refusals(names: dict[str, str]) -> list[str]:
    sentences = []
    for name, source in names.items():
        try:
            socket.getaddrinfo(name, None)
        except (OSError, UnicodeError) as error:
            sentences.append(
                f"{source} holds {name}, which this host cannot resolve ({error}). "
                f"Write an address there, or add the name to host_names or to the DNS."
            )
    return sentences


def main() -> None:
    module = AnsibleModule(argument_spec={"names": {"type": "dict", "required": True}}, supports_check_mode=True)
    if sentences := refusals(module.params["names"]):
        text = "\n".join(f"  * {sentence}" for sentence in sentences)
        module.fail_json(msg=f"Nothing was changed. This host cannot resolve every name:\n{text}", refusals=sentences)
    module.exit_json()


if __name__ == "__main__":
    main()
