"""The version of the running kit."""

from __future__ import annotations

from typing import Any

from ansible.plugins.lookup import LookupBase

from ..plugin_utils.fleet.version import kit_version

DOCUMENTATION = """
name: kit_version
short_description: The version of the running kit
description: [The version of this collection, whether it is an installed artifact or a checkout.]
options: {}
"""


class LookupModule(LookupBase):
    def run(self, terms: list[str], variables: dict[str, Any] | None = None, **kwargs: Any) -> list[str]:
        return [kit_version()]
