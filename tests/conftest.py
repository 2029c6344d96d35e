"""How the properties are tried: the same examples every time, however slow the machine is."""

from __future__ import annotations

from pathlib import Path

import ansible.module_utils
from hypothesis import HealthCheck, settings

# Ansible finds the kit's module_utils through ansible.cfg, on a host inside the module's own archive.
ansible.module_utils.__path__.append(str(Path(__file__).parents[1] / "plugins" / "module_utils"))

settings.register_profile("grunnfjell", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("grunnfjell")
