"""The kit's arithmetic about the herd, from `make plan`."""

from __future__ import annotations

import json

from lab.demo.fleet import Fleet
from lab.drill.hosts import database
from lab.machine import BUILD, Refusal
from lab.playbooks import attempt

FILE = BUILD / "herd" / "plan.json"
CONNECTIONS = "connections to PostgreSQL"


def cap(inventory: str) -> tuple[int, int]:
    """Backends that the fleet may open, and those that PostgreSQL grants."""
    line = next(line for line in plan(inventory, {})["lines"] if line["what"] == CONNECTIONS)
    return line["used"], line["limit"]


def refusal(inventory: str, fleet: Fleet) -> str:
    """The sentence with which every playbook refuses an inventory whose workers bypass PgBouncer."""
    address = database(fleet).address
    direct = {
        "application_database_host": f"{{{{ '{address}' if 'celery_workers' in group_names else '127.0.0.1' }}}}",
        "application_database_port": "{{ 5432 if 'celery_workers' in group_names else 6432 }}",
    }
    sentences = [text for text in plan(inventory, direct)["refusals"] if "postgresql_max_connections" in text]
    if not sentences:
        raise Refusal(
            "the plan lets every process of this herd connect to PostgreSQL directly, so the comparison would show nothing: give "
            "it more processes (celery_worker_concurrency) than postgresql_max_connections."
        )
    return sentences[0]


def plan(inventory: str, changed: dict[str, str]) -> dict:
    """build/plan.json of this inventory with a few inputs changed. The playbook also writes it when it ends with a refusal."""
    FILE.parent.mkdir(parents=True, exist_ok=True)
    FILE.unlink(missing_ok=True)
    extra = json.dumps({"topology_plan_file": str(FILE), **changed})
    done = attempt(inventory, "playbooks/plan.yml", "--extra-vars", extra)
    if not FILE.exists():
        raise Refusal(f"playbooks/plan.yml wrote no plan:\n{done.stdout}")
    return json.loads(FILE.read_text(encoding="utf-8"))
