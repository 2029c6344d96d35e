"""A file of a role's or the kit's templates/, rendered for the current host."""

from __future__ import annotations

from collections import ChainMap
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleLookupError
from ansible.plugins.lookup import LookupBase
from ansible.template import trust_as_template

DOCUMENTATION = """
name: rendered
short_description: A template's text, rendered with the current host's variables
description:
  - Like ansible.builtin.template, but without its deep copy of all variables for each file, which was a quarter of the control
      machine's work in a run that changes nothing.
options:
  _terms:
    description: Path of each file below a templates directory of the role, or of the playbook.
    required: true
  template_vars:
    description: Variables for this rendering, which override the host's.
    type: dict
    default: {}
  each:
    description: Name of a variable to its values. A term then gives a text for each value.
    type: dict
    default: {}
"""


class LookupModule(LookupBase):
    def run(self, terms: list[str], variables: dict[str, Any] | None = None, **kwargs: Any) -> list[str]:
        self.set_options(var_options=variables, direct=kwargs)
        scopes = [ChainMap(self.get_option("template_vars"), variables or {})]
        for name, values in self.get_option("each").items():
            scopes = [scope.new_child({name: value}) for scope in scopes for value in values]
        return [self._render(term, scope) for term in terms for scope in scopes]

    def _render(self, term: str, scope: ChainMap[str, Any]) -> str:
        templar = self._templar.copy_with_new_env(available_variables=scope)
        return templar.template(self._template(term, scope), escape_backslashes=False)

    def _template(self, term: str, variables: ChainMap[str, Any]) -> str:
        path = self.find_file_in_search_path(variables, "templates", term)
        if path is None:
            raise AnsibleLookupError(f"No templates directory of the role or the playbook has a file {term}.")
        return trust_as_template(Path(path).read_text(encoding="utf-8"))
