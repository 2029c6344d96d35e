"""The variants of the experiment: with PgBouncer, without it, and with a changed setting of the kit."""

from __future__ import annotations

import json
from dataclasses import dataclass, field

from lab.playbooks import converge


@dataclass(frozen=True)
class Arm:
    """`settings`: the inputs that this arm changes; `applied_by`: the playbook that applies them."""

    name: str
    direct: bool = False
    # A client opens a connection for each job, or one for its whole process.
    connection: str = "job"
    settings: dict[str, object] = field(default_factory=dict)
    applied_by: str = "playbooks/celery_worker.yml"
    # Seconds between one worker host's start and the next one's.
    stagger_s: float = 0.0

    @property
    def extra_vars(self) -> list[str]:
        return ["--extra-vars", json.dumps({"herd_direct": self.direct, "herd_connection": self.connection, **self.settings})]

    def apply(self, inventory: str, playbook: str = "") -> None:
        converge(inventory, *self.extra_vars, playbook=playbook or self.applied_by)


BOUNCER = Arm("with PgBouncer")
DIRECT = Arm("straight to PostgreSQL", direct=True)
