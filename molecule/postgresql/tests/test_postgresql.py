"""What role postgresql promises of the running server."""

from __future__ import annotations

import pytest

testinfra_hosts = ["ansible://postgresql"]

MIB = 1024**2


def test_the_cluster_is_online_and_comes_back_at_boot(host, cluster):
    version, name = cluster
    unit = f"postgresql@{version}-{name}"
    # An older one that pg_upgradecluster left behind may be there, and does not run.
    clusters = [line.split()[:4] for line in host.check_output("pg_lsclusters --no-header").splitlines()]
    assert [line for line in clusters if line[3] != "down"] == [[version, name, "5432", "online"]]
    assert host.service(unit).is_running, host.check_output(f"journalctl --no-pager -n 20 -u {unit}")
    assert host.service("postgresql").is_enabled
    assert host.file(f"/etc/postgresql/{version}/{name}/start.conf").contains("^auto")


@pytest.mark.once
def test_a_crashed_cluster_is_always_restarted(host, cluster):
    shown = host.service("postgresql@{}-{}".format(*cluster)).systemd_properties
    assert (shown["Restart"], shown["StartLimitIntervalUSec"]) == ("on-failure", "0")


@pytest.mark.once
def test_data_is_checksummed_and_unicode(ask):
    assert ask("SHOW data_checksums") == ["on"]
    assert ask("SELECT DISTINCT pg_encoding_to_char(encoding) FROM pg_database") == ["UTF8"]


def test_every_setting_of_the_kit_is_in_force(ask):
    ours = "sourcefile LIKE '%/conf.d/grunnfjell.conf'"
    assert int(ask(f"SELECT count(*) FROM pg_file_settings WHERE {ours}")[0]) > 10
    assert ask(f"SELECT name, error FROM pg_file_settings WHERE {ours} AND (error IS NOT NULL OR NOT applied)") == []
    assert ask("SELECT name FROM pg_settings WHERE pending_restart") == []


def test_as_many_connections_as_promised_are_granted(ask, inputs):
    for name in ("max_connections", "superuser_reserved_connections"):
        assert int(ask(f"SHOW {name}")[0]) == inputs[f"postgresql_{name}"]


def test_sizes_are_those_of_the_inventory(ask, inputs):
    for name in ("shared_buffers", "effective_cache_size", "work_mem", "maintenance_work_mem"):
        declared = inputs[f"postgresql_{name}"]
        sizes = ask(f"SELECT pg_size_bytes(current_setting('{name}')), pg_size_bytes('{declared}')")[0].split("|")
        assert sizes[0] == sizes[1], name


def test_the_promised_memory_exists(host, ask):
    total = 1024 * int(host.check_output("awk '/^MemTotal/ {print $2}' /proc/meminfo"))
    for path in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        limit = host.run(f"cat {path}").stdout.strip()
        total = min(total, int(limit)) if limit.isdigit() else total

    def size(name: str) -> int:
        return int(ask(f"SELECT pg_size_bytes(current_setting('{name}'))")[0])

    connections = int(ask("SHOW max_connections")[0])
    assert size("shared_buffers") <= total / 4 + MIB
    assert size("shared_buffers") + connections * size("work_mem") + 4 * size("maintenance_work_mem") <= total


@pytest.mark.once
def test_costs_are_those_of_an_ssd(ask):
    assert float(ask("SHOW random_page_cost")[0]) < 2
    assert int(ask("SHOW effective_io_concurrency")[0]) > 1


def test_access_rules_load_and_admit_only_scram_over_tls(ask):
    assert ask("SELECT line_number, error FROM pg_hba_file_rules WHERE error IS NOT NULL") == []
    assert ask("SELECT type, database, user_name, auth_method FROM pg_hba_file_rules WHERE type = 'local'") == [
        "local|{all}|{postgres}|peer",
        "local|{all}|{grunnfjell_restore}|scram-sha-256",
    ]
    assert ask("SELECT FROM pg_roles WHERE rolname = 'grunnfjell_restore'") == [], "it exists only while a copy is loaded"
    open_rules = (
        "type <> 'local' AND (type <> 'hostssl' OR auth_method <> 'scram-sha-256' OR 'all' = ANY (database || user_name) "
        "OR NOT 'clientcert=verify-ca' = ANY (options))"
    )
    assert ask(f"SELECT * FROM pg_hba_file_rules WHERE {open_rules}") == []
    assert ask("SHOW ssl") == ["on"]


@pytest.mark.once
def test_the_server_has_descriptors_for_its_files(host, ask, cluster):
    version, name = cluster
    pid = host.check_output(f"head -1 /var/lib/postgresql/{version}/{name}/postmaster.pid")
    limit = int(host.check_output(f"awk '/^Max open files/ {{print $4}}' /proc/{pid}/limits"))
    assert limit > int(ask("SHOW max_files_per_process")[0])
