"""The faults, one row each: what hurts the fleet at work, what ends it, and the evidence that it struck."""

from lab.drill.faults.backups import BACKUPS
from lab.drill.faults.disks import DISKS
from lab.drill.faults.fault import WITHIN_S, Fault
from lab.drill.faults.growth import GROWTH
from lab.drill.faults.leaders import LEADERS
from lab.drill.faults.members import LOST, MEMBERS
from lab.drill.faults.moved_database import MOVED_DATABASE
from lab.drill.faults.moves import MOVE
from lab.drill.faults.network import CUTS
from lab.drill.faults.operations import OPERATIONS
from lab.drill.faults.power import POWER
from lab.drill.faults.processes import BROKER_ROWS, DATABASE, POISONED, PRODUCER, WORKER
from lab.drill.faults.repository import REPOSITORY
from lab.drill.faults.restores import RESTORES
from lab.drill.faults.secrets import SECRETS
from lab.drill.faults.whole_fleet import WHOLE_FLEET

FAULTS: tuple[Fault, ...] = (
    *WORKER, *BROKER_ROWS, *DATABASE, *PRODUCER, *CUTS, *DISKS, *OPERATIONS, *SECRETS, *RESTORES, *POISONED,
)  # fmt: skip

# Of a fleet with three core hosts. GROWTH begins with one, on blank hosts, so it is the first.
HA_FAULTS = (*GROWTH, *MEMBERS, *LEADERS, *POWER, *LOST)

# By name only: each needs another inventory.
APART = (*WHOLE_FLEET, *BACKUPS, *REPOSITORY, *MOVED_DATABASE, *MOVE)

# For `make test`: the most telling ones, in a few minutes.
SHORT = ("worker child killed", "supervisord killed", "broker killed", "PostgreSQL killed", "producer killed", "poison job")

__all__ = ["APART", "FAULTS", "GROWTH", "HA_FAULTS", "MOVE", "SHORT", "WITHIN_S", "Fault"]
