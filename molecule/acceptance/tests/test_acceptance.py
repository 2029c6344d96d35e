"""The measurements agree with the host's own tools, and an existing record is reused."""

from __future__ import annotations

import html
import json
import re
from datetime import datetime

import pytest
from records import RECORDS, records

testinfra_hosts = ["ansible://all"]


def test_the_record_is_dated_and_of_this_machine(host) -> None:
    file, record = next(iter(records(host).items()))
    written = datetime.fromisoformat(record["measured_at"])
    assert file == written.strftime("%Y%m%dT%H%M%SZ.json")
    # Dated when the measures begin, written when they end: minutes later on a busy machine.
    assert 0 <= host.file(f"{RECORDS}/{file}").mtime.timestamp() - written.timestamp() + 1 < 3600
    assert record["machine_id"] == host.check_output("cat /etc/machine-id")


@pytest.mark.once
def test_the_record_agrees_with_the_host_s_own_tools(host, inputs) -> None:
    measures = next(iter(records(host).values()))["measures"]
    assert measures["virtualization"] == host.run("systemd-detect-virt").stdout.strip()
    blocks, size = host.check_output(f"stat --file-system --format '%b %S' {inputs['acceptance_directory']}").split()
    assert measures["disk"] == int(blocks) * int(size)
    assert measures["cpus"] == int(host.check_output("nproc"))
    assert set(measures["own_name"].split(", ")) & set(host.check_output("hostname -I").split())


@pytest.mark.once
def test_disk_and_cpus_were_measured(host) -> None:
    record = next(iter(records(host).values()))
    measures, errors = record["measures"], record["errors"]
    assert not {"iops", "fsync", "steal"} & set(errors), errors
    # Any disk is slower than this; a page in memory is read a million times per second.
    assert 10 < measures["iops"] < 10**7 and 0 < measures["fsync"] < 5000 and 0 <= measures["steal"] <= 1


def test_the_round_trip_was_measured_where_an_exchange_is_declared(host, inputs) -> None:
    record = next(iter(records(host).values()))
    if inputs["acceptance_exchange_address"]:
        assert 0 < record["measures"]["exchange"] < 1000, record["errors"]
    else:
        assert "acceptance_exchange_address is empty" in record["errors"]["exchange"]


def test_old_records_are_removed(host, inputs) -> None:
    assert 1 <= len(records(host)) <= inputs["acceptance_records_kept"]


@pytest.mark.once
def test_measuring_leaves_nothing_behind(host, inputs) -> None:
    assert host.run(f"ls -d {inputs['acceptance_directory']}/.acceptance-*").rc != 0
    # Other roles keep files there too, each under the name of the role.
    directories = set(host.check_output("ls -A /var/lib/grunnfjell").split())
    assert "acceptance" in directories and directories <= set(inputs["topology_roles"]), directories
    # Nothing was installed: Debian's fio depends on the libraries of storage clusters.
    assert host.run("dpkg-query --show fio").rc != 0 and host.run("dpkg-query --show librados2").rc != 0


@pytest.mark.disruptive
@pytest.mark.once
def test_an_existing_record_is_reused_and_nothing_is_measured_again(hostname, second_run) -> None:
    run = second_run.run
    assert run.returncode == 0 and run.recap and run.changed == {}, run.text
    assert second_run.after[hostname] == second_run.before[hostname]


@pytest.mark.disruptive
@pytest.mark.once
def test_an_undeclared_container_is_refused_before_anything_is_built(host, hostname, run_without_exceptions) -> None:
    run, kind = run_without_exceptions, host.run("systemd-detect-virt").stdout.strip()
    refusal = f"{hostname}: its virtualization is {kind}, but must be none or kvm (acceptance_virtualization)"
    run.assert_refused(refusal, 'acceptance_exceptions: {virtualization: "..."}', "Nothing was set up.")
    assert "Prepare the host" not in run.text


@pytest.mark.once
@pytest.mark.disruptive
def test_a_slow_disk_is_refused_with_its_measured_speed(host, hostname, run_on_slow_disks) -> None:
    run, _ = run_on_slow_disks
    iops = f"{next(iter(records(host).values()))['measures']['iops']:,}"
    run.assert_failed(
        f"{hostname}: its random reads per second at the data directory is {iops}, but must be at least 1,000,000,000"
    )


@pytest.mark.once
@pytest.mark.disruptive
def test_every_exception_is_in_the_fleet_s_report(host, hostname, exceptions, run_on_slow_disks) -> None:
    run, path = run_on_slow_disks
    report, page = json.loads(path.read_text()), path.with_suffix(".html").read_text()
    shown = {entry["measure"]: entry["reason"] for entry in report["exceptions"] if entry["host"] == hostname}
    assert shown == {measure: reason for measure, reason in exceptions.items() if measure != "iops"}
    for reason in shown.values():
        assert reason in html.unescape(page) and reason in run.text
    assert report["hosts"][hostname]["accepted"] is False
    assert re.search(rf">{hostname}</td><td class=\"bad\">refused</td>", page)
