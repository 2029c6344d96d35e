"""What the kit's own arithmetic says of the herd, asked of `plan` itself."""

from __future__ import annotations

import json

from lab.demo.converge import converge
from lab.demo.fleet import Fleet
from lab.drill.hosts import database
from lab.machine import REPOSITORY, Refusal

FILE = REPOSITORY / "build" / "herd" / "plan.json"
WHAT = "connections to PostgreSQL"


def cap(inventory: str) -> tuple[int, int]:
    """Backends that the fleet may open, and those that PostgreSQL grants."""
    line = next(line for line in asked(inventory, {})["lines"] if line["what"] == WHAT)
    return line["used"], line["limit"]


def refusal(inventory: str, fleet: Fleet) -> str:
    """What is said to an inventory that sends its workers past PgBouncer: any run of any playbook ends with it."""
    place = database(fleet).address
    said = asked(
        inventory,
        {
            "application_database_host": f"{{{{ '{place}' if 'celery_workers' in group_names else '127.0.0.1' }}}}",
            "application_database_port": "{{ 5432 if 'celery_workers' in group_names else 6432 }}",
        },
    )["refusals"]
    found = [sentence for sentence in said if "postgresql_max_connections" in sentence]
    if not found:
        raise Refusal(
            "the plan lets every process of this herd go straight to PostgreSQL, so that nothing could be shown: give it more "
            "processes (celery_worker_concurrency) than postgresql_max_connections."
        )
    return found[0]


def asked(inventory: str, changed: dict[str, str]) -> dict:
    FILE.parent.mkdir(parents=True, exist_ok=True)
    extra = json.dumps({"topology_plan_file": str(FILE), **changed})
    converge(inventory, "--extra-vars", extra, playbook="playbooks/plan.yml")
    return json.loads(FILE.read_text(encoding="utf-8"))
