"""The ways in which the same herd is woken: through PgBouncer, past it, and each with a setting of the kit's changed."""

from __future__ import annotations

import json
from dataclasses import dataclass, field

from lab.demo.converge import converge


@dataclass(frozen=True)
class Arm:
    """`settings` are inputs of the inventory's that this arm changes; `applied_by` is the playbook that makes it so."""

    name: str
    direct: bool = False
    # What a client opens a connection for: each job, or its whole process.
    connection: str = "job"
    settings: dict[str, object] = field(default_factory=dict)
    applied_by: str = "playbooks/celery_worker.yml"
    # Seconds between one worker host's start and the next one's.
    stagger_s: float = 0.0

    @property
    def extra_vars(self) -> list[str]:
        said = {"herd_direct": self.direct, "herd_connection": self.connection, **self.settings}
        return ["--extra-vars", json.dumps(said)]

    def apply(self, inventory: str, playbook: str = "") -> None:
        converge(inventory, *self.extra_vars, playbook=playbook or self.applied_by)


BOUNCER = Arm("with PgBouncer")
DIRECT = Arm("straight to PostgreSQL", direct=True)
