"""The broker's queues keep the jobs of the application, and a queue that does not is refused before a program changes."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Iterator

import pytest
from ansible_collections.grunnfjell.platform.plugins.plugin_utils.reports.work_rates import is_work
from playbook_runner import play
from rollouts import programs_of_all

testinfra_hosts = ["ansible://rabbitmq"]

PLAYBOOK = "playbooks/celery_worker.yml"
CLASSIC = """
    N = rabbit_misc:r(<<"VHOST">>, queue, <<"NAME">>),
    rabbit_amqqueue:declare(N, true, false, ARGUMENTS, none, <<"test">>), ok.
"""


def test_every_queue_that_is_consumed_keeps_its_jobs(host, fleet_inputs):
    """As `make status` reads them. A fleet may waive it."""
    waived = {inputs.get("application_name") for inputs in fleet_inputs.values() if inputs.get("application_waivers")}
    broker = host.ansible("grunnfjell.platform.platform_status")["sections"]["broker"]
    consumed = {(consumer["vhost"], consumer["queue"]) for consumer in broker["consumers"]}
    found = {
        (queue["vhost"], queue["name"]): [fault["text"] for fault in queue["faults"]]
        for queue in broker["queues"]
        if (queue["vhost"], queue["name"]) in consumed and is_work(queue["name"]) and queue["vhost"] not in waived
    }
    assert found and not any(found.values()), found


@pytest.fixture
def declare(host, inputs) -> Iterator[Callable[..., str]]:
    """Declares a queue on the broker and returns its name; afterwards it is deleted."""
    names = []

    def run(name: str, arguments: str = "[]") -> str:
        names.append(name)
        code = CLASSIC.replace("VHOST", inputs["application_name"]).replace("NAME", name).replace("ARGUMENTS", arguments)
        host.check_output(f"rabbitmqctl -q eval {shlex.quote(code)}")
        return name

    yield run
    for name in names:
        host.run(f"rabbitmqctl -q delete_queue -p {inputs['application_name']} {name}")


@pytest.mark.once
@pytest.mark.disruptive
@pytest.mark.scenario
def test_a_classic_queue_that_jobs_go_to_is_refused_before_any_program_changes(inventory, fleet, inputs, declare):
    name = declare("was-classic")
    extra = {"name": "extra", "queues": [name]}
    edit = {"celery_worker_programs": [*inputs["celery_worker_programs"], extra]}
    before = programs_of_all(fleet)
    run = play(inventory, PLAYBOOK, variables=edit)
    run.assert_failed(
        f"a job that kills its process runs in {inputs['application_name']}/{name} for ever, since it is a classic queue",
        f"or name {name} with a reason in application_waived_queues",
    )
    assert programs_of_all(fleet) == before


@pytest.mark.once
@pytest.mark.disruptive
@pytest.mark.scenario
def test_the_broker_is_asked_for_policies_arguments_and_consumers(host, inputs, declare):
    vhost, quorum = inputs["application_name"], '{<<"x-queue-type">>, longstr, <<"quorum">>}'

    def refused(**question: object) -> list[str]:
        answer = host.ansible("grunnfjell.platform.rabbitmq_queues", json.dumps({"vhost": vhost, **question}), check=False)
        assert answer["answered"]
        return answer["sentences"]

    kept = declare("kept", f"[{quorum}]")
    assert refused(names=[kept, vhost, "absent"]) == refused(consumed=[vhost], sent={vhost: "task_default_queue"}) == []
    forgetful = declare("forgetful", f'[{quorum}, {{<<"x-message-ttl">>, long, 60000}}]')
    ranked = declare("ranked", '[{<<"x-max-priority">>, long, 3}]')
    expected = {"forgetful": "waits in newsroom/forgetful for more than 60 s is not run", "ranked": "with 3 priorities"}
    for name in (forgetful, ranked):
        (sentence,) = refused(names=[name])
        assert expected[name] in sentence
    (sentence,) = refused(sent={kept: "task_routes"})
    assert sentence.startswith(f"task_routes sends jobs to the queue {kept}, which has no consumer on the broker")
    policy = json.dumps({"dead-letter-exchange": "elsewhere"})
    host.check_output(f"rabbitmqctl -q set_policy -p {vhost} --priority 9 mine '^{kept}$' %s", policy)
    try:
        assert (
            f"a job that fails in {vhost}/{kept} goes to the exchange elsewhere, not to dead_letters" in refused(names=[kept])[0]
        )
    finally:
        host.check_output(f"rabbitmqctl -q clear_policy -p {vhost} mine")
