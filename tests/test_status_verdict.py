"""The first line of the status report is not a plain yes while a job that is accepted now may not be done."""

import pytest
from ansible_collections.grunnfjell.platform.plugins.module_utils import queue_faults
from test_queue_faults import QUORUM
from test_status import fleet, queue, report_of


def test_a_queue_that_can_lose_jobs_is_never_called_well():
    """The review of real applications: 45 classic queues, `Yes, a 202 is accepted now`, and failed jobs that were nowhere."""
    answers = fleet()
    broker = answers["broker1"]["sections"]["broker"]
    faults = [{"setting": "task_default_queue_type", "text": f"it loses jobs {number}: mend it"} for number in range(5)]
    mail = queue("mail") | {"faults": faults[:1]}
    broker["queues"].append(mail)
    broker["consumers"].append(broker["consumers"][0] | {"queue": "mail"})
    report = report_of(answers)
    assert report["accepting"] and report["verdict"] == "Yes, jobs are accepted now, but it loses jobs 0."
    assert report["attention"] == ["it loses jobs 0: mend it"]
    mail["faults"] = faults
    assert report_of(answers)["verdict"].endswith("but it loses jobs 0; it loses jobs 1; it loses jobs 2; 2 more such faults.")
    answers["web1"]["sections"]["producer"]["answers"]["ok"] = False
    assert report_of(answers)["verdict"].startswith("No: ")


@pytest.mark.parametrize(
    ("faults", "sentence"),
    [
        ({"ttl_ms": 60000}, "a job that waits in shop/mail for more than 60 s is not run"),
        ({"delivery_limit": -1}, "a job that kills its process runs in shop/mail for ever, since it has no delivery limit"),
        ({"dead_letters_to": "mine"}, "a job that fails in shop/mail goes to the exchange mine, not to dead_letters"),
        ({"dead_letters_to": None}, "a job that fails in shop/mail is lost and never a dead letter, since no policy"),
    ],
)
def test_the_verdict_names_each_way_to_lose_a_job(faults: dict, sentence: str) -> None:
    answers = fleet()
    broker = answers["broker1"]["sections"]["broker"]
    broker["queues"].append(queue("mail") | {"faults": queue_faults.faults(QUORUM | faults, "4.0.5")})
    broker["consumers"].append(broker["consumers"][0] | {"queue": "mail"})
    assert report_of(answers)["verdict"].startswith(f"Yes, jobs are accepted now, but {sentence}")


@pytest.mark.parametrize(("ready", "sentence"), [(0, ""), (1, ", but 1 job waits"), (7, ", but 7 jobs wait")])
def test_the_verdict_names_jobs_that_nobody_consumes(ready: int, sentence: str) -> None:
    answers = fleet()
    answers["broker1"]["sections"]["broker"]["queues"].append(queue("mail", ready))
    where = " in shop/mail, which nobody consumes" if ready else ""
    assert report_of(answers)["verdict"] == f"Yes, jobs are accepted now{sentence}{where}."


def test_celerys_own_queues_need_no_dead_letters():
    answers = fleet()
    own = ("w@h.celery.pidbox", "celeryev.1", "dead_letters", "5a1e0d3c-0000-4000-8000-000000000000")
    answers["broker1"]["sections"]["broker"]["queues"] += [queue(name) | {"dead_letters_to": None} for name in own]
    assert report_of(answers)["attention"] == []
