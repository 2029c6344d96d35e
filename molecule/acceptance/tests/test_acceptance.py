"""What was measured is what the host says of itself, and a record that stands is read."""

from __future__ import annotations

import html
import json
import re
from datetime import datetime

import pytest
from measured import RECORDS, records

testinfra_hosts = ["ansible://all"]


@pytest.fixture
def name(host) -> str:
    return host.backend.get_hostname()


def test_the_record_is_dated_and_of_this_machine(host) -> None:
    file, record = next(iter(records(host).items()))
    written = datetime.fromisoformat(record["measured_at"])
    assert file == written.strftime("%Y%m%dT%H%M%SZ.json")
    assert abs(written.timestamp() - host.file(f"{RECORDS}/{file}").mtime.timestamp()) < 60
    assert record["machine_id"] == host.check_output("cat /etc/machine-id")


@pytest.mark.once
def test_the_record_says_what_the_host_s_own_tools_say(host, inputs) -> None:
    measures = next(iter(records(host).values()))["measures"]
    assert measures["virtualization"] == host.run("systemd-detect-virt").stdout.strip()
    blocks, size = host.check_output(f"stat --file-system --format '%b %S' {inputs['acceptance_directory']}").split()
    assert measures["disk"] == int(blocks) * int(size)
    assert measures["cpus"] == int(host.check_output("nproc"))
    assert set(measures["own_name"].split(", ")) & set(host.check_output("hostname -I").split())


@pytest.mark.once
def test_disk_and_processors_were_measured(host) -> None:
    record = next(iter(records(host).values()))
    measures, errors = record["measures"], record["errors"]
    assert not {"iops", "fsync", "steal"} & set(errors), errors
    # A disk of any kind, and no cache: a page of memory is read a million times a second.
    assert 10 < measures["iops"] < 10**7 and 0 < measures["fsync"] < 5000 and 0 <= measures["steal"] <= 1


def test_the_round_trip_was_measured_where_somebody_is_asked(host, inputs) -> None:
    record = next(iter(records(host).values()))
    if inputs["acceptance_exchange_address"]:
        assert 0 < record["measures"]["exchange"] < 1000, record["errors"]
    else:
        assert "acceptance_exchange_address is empty" in record["errors"]["exchange"]


def test_old_records_go(host, inputs) -> None:
    assert 1 <= len(records(host)) <= inputs["acceptance_records_kept"]


@pytest.mark.once
def test_measuring_leaves_nothing_behind(host, inputs) -> None:
    assert host.run(f"ls -d {inputs['acceptance_directory']}/.acceptance-*").rc != 0
    # Beside the records stands what the fleet's other roles keep, each under its own name.
    kept = set(host.check_output("ls -A /var/lib/grunnfjell").split())
    assert "acceptance" in kept and kept <= set(inputs["topology_roles"]), kept
    # Nor was anything installed: Debian's fio comes with the libraries of storage clusters.
    assert host.run("dpkg-query --show fio").rc != 0 and host.run("dpkg-query --show librados2").rc != 0


@pytest.mark.disruptive
@pytest.mark.once
def test_a_record_that_stands_is_read_and_nothing_is_measured_again(name, once_more) -> None:
    answer = once_more.answer
    assert answer.returncode == 0 and answer.counts and answer.changed == {}, answer.said
    assert once_more.after[name] == once_more.before[name]


@pytest.mark.disruptive
@pytest.mark.once
def test_an_undeclared_container_is_refused_before_anything_is_built(host, name, without_exceptions) -> None:
    kind = host.run("systemd-detect-virt").stdout.strip()
    assert f"{name}: its virtualization is {kind}, but must be none or kvm (acceptance_virtualization)" in without_exceptions.said
    assert 'acceptance_exceptions: {virtualization: "..."}' in without_exceptions.said
    assert without_exceptions.returncode != 0, without_exceptions.said
    assert without_exceptions.counts and without_exceptions.changed == {}, without_exceptions.said
    assert "Prepare the host" not in without_exceptions.said and "Nothing was set up." in without_exceptions.said


@pytest.mark.once
@pytest.mark.disruptive
def test_a_disk_that_is_too_slow_is_refused_by_what_it_was_measured_at(host, name, measured_anew) -> None:
    answer, _ = measured_anew
    iops = f"{next(iter(records(host).values()))['measures']['iops']:,}"
    wanted = f"{name}: its random reads per second at the data directory is {iops}, but must be at least 1,000,000,000"
    assert answer.returncode != 0 and wanted in answer.said, answer.said


@pytest.mark.once
@pytest.mark.disruptive
def test_every_exception_is_in_the_fleet_s_report(host, name, declared, measured_anew) -> None:
    answer, path = measured_anew
    report, page = json.loads(path.read_text()), path.with_suffix(".html").read_text()
    shown = {one["measure"]: one["reason"] for one in report["exceptions"] if one["host"] == name}
    assert shown == {measure: reason for measure, reason in declared.items() if measure != "iops"}
    for reason in shown.values():
        assert reason in html.unescape(page) and reason in answer.said.replace("\n", " ")
    assert report["hosts"][name]["accepted"] is False and re.search(rf">{name}</td><td class=\"bad\">refused</td>", page)
