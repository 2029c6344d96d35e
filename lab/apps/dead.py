"""A task that raises, in each queue of an application, is among the dead letters with its reason."""

from __future__ import annotations

import json

from lab import playbooks
from lab.apps.application import in_environment
from lab.deadlines import until
from lab.demo.fleet import Host
from lab.drill.hosts import shell
from lab.machine import BUILD, Refusal

# No task takes this argument.
PUBLISH = """
import json
from {module} import app
app.loader.import_default_modules()
task = next(name for name in sorted(app.tasks) if not name.startswith("celery."))
print(json.dumps({{app.send_task(task, kwargs={{"nobody_takes_this": 1}}, queue=queue).id: queue for queue in {queues!r}}}))
"""


def queues(broker: Host, vhost: str) -> dict[str, str]:
    """Queue to type of those where an application's jobs wait: not Celery's own, nor dead letters."""
    out = shell(broker, f"rabbitmqctl -q list_queues -p {vhost} name type --formatter json")
    own = ("celery_delayed_", "celeryev.", "dead_letters")
    held = {queue["name"]: queue["type"].removeprefix("rabbit_").removesuffix("_queue") for queue in json.loads(out)}
    return {name: kind for name, kind in held.items() if not name.startswith(own) and "celery.pidbox" not in name}


def raise_in_every_queue(inventory: str, web: Host, name: str, module: str, names: list[str]) -> str:
    """A sentence about the dead letters; a refusal if one is missing or has no reason."""
    output = in_environment(web, name, PUBLISH.format(module=module, queues=names))
    sent = json.loads(output.splitlines()[-1])

    def listed() -> dict[str, dict]:
        playbooks.play(inventory, "playbooks/dead_letters.yml", "-e", "dead_letters_limit=1000")
        letters = json.loads((BUILD / "dead_letters.json").read_text(encoding="utf-8"))["letters"]
        found = {letter["id"]: letter for letter in letters if letter["id"] in sent}
        return found if len(found) == len(sent) else {}

    letters = until(f"the dead letters of {len(sent)} queues", listed, 120)
    wrong = [queue for id, queue in sent.items() if letters[id]["queue"] != queue or "TypeError" not in str(letters[id])]
    if wrong:
        raise Refusal(f"the dead letters of {', '.join(wrong)} lack their queue or their reason: {letters}")
    return f"a task that raises is a dead letter with its queue and its reason, in each of {len(sent)} queues"
