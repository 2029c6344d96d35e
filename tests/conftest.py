"""How the properties are tried: the same examples every time, however slow the machine is."""

from hypothesis import HealthCheck, settings

settings.register_profile("grunnfjell", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("grunnfjell")
