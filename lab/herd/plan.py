"""What the kit's own arithmetic says of the herd, asked of `plan` itself."""

from __future__ import annotations

import json
import subprocess

from lab.demo.fleet import BIN, Fleet
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
    """build/plan.json of this inventory with a few inputs changed. `plan` writes it also where it ends with a refusal."""
    FILE.parent.mkdir(parents=True, exist_ok=True)
    FILE.unlink(missing_ok=True)
    extra = json.dumps({"topology_plan_file": str(FILE), **changed})
    command = [str(BIN / "ansible-playbook"), "-i", inventory, "--extra-vars", extra, "playbooks/plan.yml"]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    if not FILE.exists():
        raise Refusal(f"playbooks/plan.yml wrote no plan:\n{done.stdout}{done.stderr}")
    return json.loads(FILE.read_text(encoding="utf-8"))
