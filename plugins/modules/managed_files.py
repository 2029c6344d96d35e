#!/usr/bin/python3
"""Several whole files in one call."""

from __future__ import annotations

DOCUMENTATION = r"""
module: managed_files
short_description: Put several whole files in place, in one call
description:
  - Writes each file that differs, atomically, and makes the directories that lead to it (root, 0755).
  - One call for a role's whole configuration costs a twelfth of a template task that loops over six files, two calls each.
options:
  files:
    description: Files, each C(path), C(content), C(owner), C(group), C(mode). Content may be missing where I(secrets) has it.
    type: list
    elements: dict
    required: true
    suboptions:
      path: {description: Where the file stands., type: path, required: true}
      content: {description: Its whole content., type: str}
      owner: {description: Owner., type: str, default: root}
      group: {description: Group., type: str, default: root}
      mode: {description: 'Permissions, octal.', type: str, default: '0644'}
      validate: {description: Command that must accept the content (C(%s)) before it is put in place., type: str}
  secrets:
    description: Path to content, for the files that nobody may see, not in a diff either.
    type: dict
    default: {}
  directories:
    description: Directories that must be there though nothing is put into them.
    type: list
    elements: path
    default: []
author: maintainers
"""

EXAMPLES = r"""
- name: Configure the service
  managed_files:
    files:
      - path: /etc/service/service.conf
        content: "{{ lookup('rendered', 'etc/service/service.conf.j2') }}"
        group: service
        mode: "0640"
  notify: Reload the service
"""

RETURN = r"""
written: {description: Paths that were written or would be., returned: success, type: list, elements: str}
"""

import os

from ansible.module_utils.basic import AnsibleModule

from ..module_utils.whole_files import Invalid, ManagedFile, write_files


def main() -> None:
    file_spec = {
        "path": {"type": "path", "required": True},
        "content": {"type": "str"},
        "owner": {"type": "str", "default": "root"},
        "group": {"type": "str", "default": "root"},
        "mode": {"type": "str", "default": "0644"},
        "validate": {"type": "str"},
    }
    module = AnsibleModule(
        argument_spec={
            "files": {"type": "list", "elements": "dict", "options": file_spec, "required": True},
            "secrets": {"type": "dict", "default": {}, "no_log": True},
            "directories": {"type": "list", "elements": "path", "default": []},
        },
        supports_check_mode=True,
    )
    files = []
    for file in module.params["files"]:
        secret = module.params["secrets"].get(file["path"])
        content = file["content"] if secret is None else secret
        if content is None:
            module.fail_json(msg=f"{file['path']} has no content, neither of its own nor in secrets.")
        files.append(
            ManagedFile(
                file["path"], content, file["owner"], file["group"], int(file["mode"], 8), secret is not None, file["validate"]
            )
        )
    missing = [path for path in module.params["directories"] if not os.path.isdir(path)]
    if not module.check_mode:
        for path in missing:
            os.makedirs(path, mode=0o755)
    try:
        result = write_files(files, module.check_mode)
    except Invalid as refused:
        module.fail_json(msg=str(refused))
    written = [*missing, *result.changed]
    module.exit_json(changed=bool(written), written=written, diff=result.diffs)


if __name__ == "__main__":
    main()
