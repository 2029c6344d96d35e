"""The acceptance of a host: the verdict on each measured value, and the records of earlier measurements."""

import json
from datetime import UTC, datetime, timedelta

import pytest
from ansible_collections.grunnfjell.platform.plugins.module_utils import fio
from ansible_collections.grunnfjell.platform.plugins.modules import acceptance_measures
from ansible_collections.grunnfjell.platform.plugins.plugin_utils.reports.acceptance import (
    MEASURES,
    NAMES,
    RECORDED,
    exceptions_of,
    findings_of,
    fleet_report,
    is_valid,
    paid,
    problems,
    record_of,
    refused,
)
from ansible_collections.grunnfjell.platform.plugins.plugin_utils.reports.acceptance_page import page, text
from hypothesis import given
from hypothesis import strategies as st

GIB = 2**30
LIMITS = {
    "acceptance_virtualization": ["none", "kvm"],
    "acceptance_cpus": 2,
    "acceptance_memory_bytes": 4 * GIB,
    "acceptance_disk_bytes": 40 * GIB,
    "acceptance_iops_min": 5000,
    "acceptance_fsync_p99_max": 10,
    "acceptance_steal_max": 0.05,
    "acceptance_round_trip_max": 2,
}
# Each measure on its limit, and beyond it.
VALUES = {
    "virtualization": ("kvm", "lxc"),
    "cpus": (2, 1),
    "memory": (4 * GIB, GIB),
    "disk": (40 * GIB, GIB),
    "own_name": ("192.0.2.11", "nothing"),
    "iops": (5000, 180),
    "fsync": (10, 41.5),
    "steal": (0.05, 0.31),
    "exchange": (2, 19),
}
GOOD = {name: good for name, (good, _) in VALUES.items()}
BAD = {name: bad for name, (_, bad) in VALUES.items()}
METHOD = {"directory": "/var/lib", "seconds": 10}
NOW = datetime(2026, 11, 25, 12, tzinfo=UTC)
MACHINE = "a" * 32
words = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=30)
spoiled = st.sets(st.sampled_from(NAMES))


def verdicts(measures, exceptions=None, errors=None):
    return {finding.measure: finding for finding in findings_of("db1", measures, errors or {}, LIMITS, exceptions or {})}


def with_verdict(findings, verdict):
    return {name for name, finding in findings.items() if finding.verdict == verdict}


def test_a_host_on_every_limit_is_accepted():
    assert with_verdict(verdicts(GOOD), "accepted") == set(VALUES) == set(NAMES)


@given(spoiled, st.sets(st.sampled_from(NAMES)))
def test_exactly_the_values_beyond_a_limit_without_an_exception_are_refused(bad, excepted):
    findings = verdicts(GOOD | {name: BAD[name] for name in bad}, dict.fromkeys(excepted, "on purpose"))
    assert with_verdict(findings, "refused") == bad - excepted
    assert with_verdict(findings, "excepted") == bad & excepted
    assert {name for name, finding in findings.items() if finding.needed} == bad & excepted
    assert len(refused(list(findings.values()))) == len(bad - excepted)


@given(st.sampled_from([m for m in MEASURES if m.name in ("iops", "fsync", "steal", "exchange", "cpus")]), st.floats(0, 1e6))
def test_a_number_is_refused_exactly_beyond_its_limit(measure, value):
    limit = LIMITS[measure.limit]
    short = value < limit if measure.name in ("iops", "cpus") else value > limit
    assert (verdicts(GOOD | {measure.name: value})[measure.name].verdict == "refused") == short


@given(spoiled)
def test_a_missing_measurement_is_refused_with_its_error(missing):
    measures = {name: value for name, value in GOOD.items() if name not in missing}
    findings = verdicts(measures, errors=dict.fromkeys(missing, "fio: nobody home"))
    assert with_verdict(findings, "refused") == missing
    assert all("not measured: fio: nobody home" in findings[name].sentence for name in missing)


@pytest.mark.parametrize("name", NAMES)
def test_a_refusal_names_value_limit_remedy_and_exception(name):
    measure = next(measure for measure in MEASURES if measure.name == name)
    sentence = verdicts(GOOD | {name: BAD[name]})[name].sentence
    assert sentence.startswith(f"db1: {measure.what} is {measure.show(BAD[name])}, but must be ")
    assert measure.limit in sentence and measure.remedy in sentence and measure.demand(LIMITS.get(measure.limit)) in sentence
    assert f'acceptance_exceptions: {{{name}: "..."}}' in sentence


def test_the_sentence_of_a_slow_disk():
    assert verdicts(GOOD | {"iops": 180})["iops"].sentence == (
        "db1: its random reads per second at the data directory is 180, but must be at least 5,000 (acceptance_iops_min): that "
        "is a spinning or an oversold disk, at which queues and database wait. Ask the provider for an SSD. If that is intended, "
        'give a reason in the inventory: acceptance_exceptions: {iops: "..."}.'
    )


@pytest.mark.parametrize("reason", ["", "  ", None, True, 1, [], {}])
def test_an_exception_without_a_reason_is_refused(reason):
    assert verdicts(GOOD | {"iops": 1}, {"iops": reason})["iops"].verdict == "refused"
    assert "without a reason" in " ".join(problems({"iops": reason}, "192.0.2.1"))


@given(st.dictionaries(st.sampled_from(NAMES), words.filter(str.strip)))
def test_exceptions_with_reasons_are_valid(exceptions):
    assert problems(exceptions, "192.0.2.1") == []
    assert bool(problems(exceptions, "")) == ("exchange" not in exceptions)


@pytest.mark.parametrize("name", ["cpus", "memory", "disk"])
def test_a_value_that_the_inventory_does_not_claim_is_reported_as_unclaimed(name):
    measure = next(measure for measure in MEASURES if measure.name == name)
    findings = findings_of("db1", BAD, {}, LIMITS | {measure.limit: 0}, {})
    (finding,) = (finding for finding in findings if finding.measure == name)
    assert (finding.verdict, finding.demanded, finding.value) == ("unclaimed", "nothing: the inventory claims nothing", BAD[name])


@given(st.integers(1, 2**45), st.floats(0, 0.3))
def test_the_kernel_may_take_its_share_and_no_more(claimed, tolerance):
    assert claimed * 0.69 <= paid(claimed, tolerance) <= claimed


def record(**changes):
    return {"format": 1, "measured_at": NOW.isoformat(), "machine_id": MACHINE, "method": METHOD} | changes


@given(st.floats(-1000, 1000))
def test_a_record_is_valid_for_its_days_and_not_before_it_was_made(days):
    later = (NOW + timedelta(days=days)).isoformat()
    assert is_valid(record(), later, MACHINE, METHOD, 365) == (
        timedelta(0) <= datetime.fromisoformat(later) - NOW <= timedelta(days=365)
    )


@pytest.mark.parametrize(
    "changed",
    [
        {"machine_id": "b" * 32}, {"method": METHOD | {"seconds": 11}}, {"format": 0}, {"measured_at": "yesterday"},
        {"measured_at": None}, {"measured_at": "2026-11-25T12:00:00"}, {"method": None},
    ],
)  # fmt: skip
def test_a_record_of_another_machine_or_method_is_invalid(changed):
    assert is_valid(record(), NOW.isoformat(), MACHINE, METHOD, 365)
    assert not is_valid(record(**changed), NOW.isoformat(), MACHINE, METHOD, 365)


@pytest.mark.parametrize("nothing", [None, [], "", 3, {}])
def test_anything_but_a_record_is_invalid(nothing):
    assert not is_valid(nothing, NOW.isoformat(), MACHINE, METHOD, 365)


def test_a_machine_without_an_identity_has_no_record():
    assert not is_valid(record(machine_id=""), NOW.isoformat(), "", METHOD, 365)


@given(spoiled)
def test_a_record_is_read_back_as_it_was_written(bad):
    measures = GOOD | {name: BAD[name] for name in bad}
    facts = {"now": NOW.isoformat(), "machine_id": MACHINE}
    kept = json.loads(json.dumps(record_of(facts, METHOD, list(verdicts(measures).values()), measures, {})))
    assert is_valid(kept, NOW.isoformat(), MACHINE, METHOD, 1)
    assert kept["accepted"] == (not bad)
    assert {name: kept["measures"][name] for name in RECORDED} == {name: measures[name] for name in RECORDED}


# The report.


def host_of(measures, exceptions):
    findings = [vars(finding) for finding in verdicts(measures, exceptions).values()]
    return {
        "accepted": not any(finding["sentence"] for finding in findings),
        "findings": findings,
        "machine_id": MACHINE,
        "measured_at": NOW.isoformat(),
        "clock_offset_seconds": 0.01,
    }


@given(spoiled, st.sets(st.sampled_from(NAMES)), words.filter(str.strip))
def test_every_exception_and_every_refusal_is_in_the_report(bad, excepted, reason):
    hosts = {"db1": host_of(GOOD | {name: BAD[name] for name in bad}, dict.fromkeys(excepted, reason)), "web1": host_of(GOOD, {})}
    report = fleet_report("inventories/shop", NOW.isoformat(), hosts)
    assert report["accepted"] == (not bad - excepted)
    assert {exception["measure"] for exception in report["exceptions"]} == excepted
    assert len(report["refused"]) == len(bad - excepted)
    assert text(report).count("exception ") - text(report).count("exception is needed") == len(excepted)
    assert page(report).count(">db1</td>") == 1 + len(excepted)


def test_a_host_that_was_not_measured_fails_the_report():
    hosts = {"db1": {"accepted": False, "error": "it was not measured"}}
    report = fleet_report("inventories/shop", NOW.isoformat(), hosts)
    assert not report["accepted"] and report["refused"] == ["db1: it was not measured"]
    assert "db1: it was not measured" in page(report) and list(exceptions_of(hosts)) == []
    assert not fleet_report("inventories/shop", NOW.isoformat(), {})["accepted"]


def test_a_reason_is_escaped_in_the_page():
    report = fleet_report("x", NOW.isoformat(), {"db1": host_of(BAD, {"iops": "<script>alert(1)</script>"})})
    assert "<script>" not in page(report) and "&lt;script&gt;" in page(report)


# The module.


def stat(*fields):
    return f"cpu  {' '.join(map(str, fields))} 0 0\ncpu0 1 2 3\n"


@given(st.lists(st.integers(0, 10**6), min_size=8, max_size=8))
def test_steal_is_its_share_of_the_time_that_passed(passed):
    share = acceptance_measures.stolen(stat(*[7] * 8), stat(*(7 + ticks for ticks in passed)))
    assert share == (passed[7] / sum(passed) if sum(passed) else 0)


def test_a_job_after_a_line_of_text_is_found():
    out = 'fio: this is new\n{"jobs": [{"error": 0, "read": {"iops": 5.5}}]}'
    assert fio.job_of(0, out, "")["read"]["iops"] == 5.5


@pytest.mark.parametrize(
    ("returncode", "out"),
    [(1, '{"jobs": [{"error": 22}]}'), (0, '{"jobs": [{"error": 22}]}'), (0, ""), (0, "[]")],
)  # fmt: skip
def test_a_failed_job_gives_its_reason(returncode, out):
    with pytest.raises(fio.NotMeasured, match="no O_DIRECT"):
        fio.job_of(returncode, out, "fio: no O_DIRECT")


def test_the_oldest_records_are_removed_and_the_newest_is_read(tmp_path, monkeypatch):
    def write(file):
        tmp_path.mkdir(exist_ok=True)
        (tmp_path / file.path).write_text(file.content)

    monkeypatch.setattr(acceptance_measures, "write_atomically", write)
    assert acceptance_measures.newest(tmp_path / "none") is None
    for day in range(5):
        acceptance_measures.keep(tmp_path, {"measured_at": (NOW + timedelta(days=day)).isoformat()}, 3)
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"202611{day}T120000Z.json" for day in (27, 28, 29)]
    (tmp_path / "20261130T120000Z.json").write_text("{half")
    assert acceptance_measures.newest(tmp_path) == {"measured_at": "2026-11-29T12:00:00+00:00"}


def test_a_directory_that_does_not_exist_yet_is_measured_at_its_parent(tmp_path):
    assert fio.nearest(str(tmp_path / "a/b")) == str(tmp_path)
    assert acceptance_measures.disk_bytes(str(tmp_path / "a/b")) == acceptance_measures.disk_bytes(str(tmp_path)) > 0


@given(st.binary(min_size=16, max_size=16))
def test_a_packet_with_its_checksum_sums_to_zero(packet):
    packet = packet[:2] + b"\0\0" + packet[4:]
    whole = packet[:2] + acceptance_measures.checksum(packet).to_bytes(2, "big") + packet[4:]
    assert acceptance_measures.checksum(whole) == 0


def test_a_refused_connection_is_a_round_trip_and_silence_is_not():
    assert 0 < acceptance_measures.exchange("127.0.0.1", 1) < 1000
    with pytest.raises(fio.NotMeasured, match="is empty"):
        acceptance_measures.exchange("", 0)
    with pytest.raises(fio.NotMeasured, match=r"name\.invalid answered 0 of 11 probes by TCP port 1"):
        acceptance_measures.exchange("name.invalid", 1)
