"""What role postgresql promises, asked of the running server."""

from __future__ import annotations

import shlex

import pytest
from superuser import PSQL

testinfra_hosts = ["ansible://postgresql"]

MIB = 1024**2


@pytest.fixture(scope="module")
def ask(host):
    """SQL as the superuser; returns the lines of the answer, and fails with what PostgreSQL said."""

    def run(sql: str, database: str = "postgres", expect_error: bool = False) -> list[str]:
        done = host.run(f"{PSQL} -d {database} -c {shlex.quote(sql)}")
        if expect_error:
            assert done.rc, f"this should have been refused: {sql}\n{done.stdout}"
            return done.stderr.splitlines()
        assert done.rc == 0, f"{sql}\n{done.stderr}"
        return done.stdout.splitlines()

    return run


@pytest.fixture(scope="module")
def cluster(ask):
    (version,) = ask("SELECT current_setting('server_version_num')::int / 10000")
    return version, "main"


def test_the_cluster_itself_is_online_and_comes_back_at_boot(host, cluster):
    version, name = cluster
    unit = f"postgresql@{version}-{name}"
    # An older one that pg_upgradecluster left behind may be there, and does not run.
    clusters = [line.split()[:4] for line in host.check_output("pg_lsclusters --no-header").splitlines()]
    assert [line for line in clusters if line[3] != "down"] == [[version, name, "5432", "online"]]
    assert host.service(unit).is_running, host.check_output(f"journalctl --no-pager -n 20 -u {unit}")
    assert host.service("postgresql").is_enabled
    assert host.file(f"/etc/postgresql/{version}/{name}/start.conf").contains("^auto")


@pytest.mark.once
def test_a_cluster_that_dies_is_started_again_however_often(host, cluster):
    shown = host.service("postgresql@{}-{}".format(*cluster)).systemd_properties
    assert (shown["Restart"], shown["StartLimitIntervalUSec"]) == ("on-failure", "0")


@pytest.mark.once
def test_data_is_checksummed_and_unicode(ask):
    assert ask("SHOW data_checksums") == ["on"]
    assert ask("SELECT DISTINCT pg_encoding_to_char(encoding) FROM pg_database") == ["UTF8"]


def test_every_setting_of_ours_is_in_force(ask):
    ours = "sourcefile LIKE '%/conf.d/grunnfjell.conf'"
    assert int(ask(f"SELECT count(*) FROM pg_file_settings WHERE {ours}")[0]) > 10
    assert ask(f"SELECT name, error FROM pg_file_settings WHERE {ours} AND (error IS NOT NULL OR NOT applied)") == []
    assert ask("SELECT name FROM pg_settings WHERE pending_restart") == []


def test_as_many_connections_as_promised_are_granted(ask, inputs):
    for name in ("max_connections", "superuser_reserved_connections"):
        assert int(ask(f"SHOW {name}")[0]) == inputs[f"postgresql_{name}"]


def test_sizes_are_those_of_the_inventory(ask, inputs):
    for name in ("shared_buffers", "effective_cache_size", "work_mem", "maintenance_work_mem"):
        in_force, wanted = ask(
            f"SELECT pg_size_bytes(current_setting('{name}')), pg_size_bytes('{inputs[f'postgresql_{name}']}')"
        )[0].split("|")
        assert in_force == wanted, name


def test_memory_that_is_promised_exists(host, ask):
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
        "local|{all}|{postgres}|peer"
    ]
    open_rules = (
        "type <> 'local' AND (type <> 'hostssl' OR auth_method <> 'scram-sha-256' OR 'all' = ANY (database || user_name) "
        "OR NOT 'clientcert=verify-ca' = ANY (options))"
    )
    assert ask(f"SELECT * FROM pg_hba_file_rules WHERE {open_rules}") == []
    assert ask("SHOW ssl") == ["on"]


PKI = "/etc/grunnfjell/pki"
VERIFIED = f"sslmode=verify-full sslrootcert={PKI}/authorities.pem"
WITH_CERTIFICATE = f"sslcert={PKI}/postgresql/certificate.pem sslkey={PKI}/postgresql/key.pem"
PASSFILE = "/run/grunnfjell-test-pgpass"


@pytest.fixture(scope="module")
def connect(host, inputs):
    """psql over the network as an application; the password goes from the inventory into a file."""
    (address,) = [one for one in inputs["postgresql_listen_addresses"] if one not in ("localhost", "127.0.0.1")]
    if address not in inputs["postgresql_client_addresses"]:
        pytest.skip("this host is no client of its own PostgreSQL; the tests of pgbouncer ask from those that are")
    database = inputs["postgresql_databases"][0]
    password = f"postgresql_role_passwords['{database['owner']}']"
    host.ansible("copy", f"dest={PASSFILE} mode=0600 content='*:*:*:*:{{{{ {password} }}}}\n'", check=False)

    def run(
        parameters: str, address: str = address, sql: str = "SELECT ssl, version FROM pg_stat_ssl WHERE pid = pg_backend_pid()"
    ):
        where = f"host={address} port=5432 user={database['owner']} dbname={database['name']} {parameters}"
        return host.run(f"PGPASSFILE={PASSFILE} PGCONNECT_TIMEOUT=10 psql -XqAtw {shlex.quote(where)} -c {shlex.quote(sql)}")

    yield run
    host.check_output(f"rm -f {PASSFILE}")


@pytest.mark.disruptive
def test_an_application_with_certificate_and_password_comes_in(connect):
    done = connect(f"{VERIFIED} {WITH_CERTIFICATE}")
    assert done.stdout.strip() == "t|TLSv1.3", done.stderr


@pytest.mark.disruptive
def test_without_a_certificate_the_password_alone_opens_nothing(connect):
    done = connect(f"{VERIFIED} sslcert=/nonexistent")
    assert done.rc and "valid client certificate" in done.stderr, done.stdout + done.stderr


@pytest.mark.disruptive
def test_plain_text_is_refused(connect):
    done = connect("sslmode=disable")
    assert done.rc and "no encryption" in done.stderr, done.stdout + done.stderr


@pytest.mark.disruptive
@pytest.mark.once
def test_a_certificate_of_another_authority_is_refused(host, connect):
    made = "/run/grunnfjell-test-stranger"
    host.check_output(
        f"openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 1 -subj /CN=news "
        f"-keyout {made}.key -out {made}.pem 2>/dev/null && chmod 0600 {made}.key"
    )
    try:
        done = connect(f"{VERIFIED} sslcert={made}.pem sslkey={made}.key")
        assert done.rc and ("unknown ca" in done.stderr or "certificate" in done.stderr), done.stdout + done.stderr
    finally:
        host.check_output(f"rm -f {made}.key {made}.pem")


@pytest.mark.disruptive
@pytest.mark.once
def test_a_client_that_dials_another_name_does_not_believe_the_server(connect):
    done = connect(f"{VERIFIED} {WITH_CERTIFICATE}", address="127.0.0.1")
    assert done.rc and "server certificate" in done.stderr, done.stdout + done.stderr


@pytest.mark.once
def test_nothing_older_than_tls_1_2_and_no_weak_cipher_is_spoken(host, inputs):
    address = inputs["postgresql_listen_addresses"][-1]
    for offer in ("-tls1_1 -cipher ALL:@SECLEVEL=0", "-tls1_2 -cipher AES128-SHA:AES256-GCM-SHA384"):
        done = host.run(f"openssl s_client -starttls postgres -connect {address}:5432 {offer} </dev/null")
        assert "Cipher is (NONE)" in done.stdout, done.stdout


@pytest.mark.once
@pytest.mark.disruptive
def test_a_renewed_certificate_is_a_reload_and_no_session_ends(host, ask, cluster, inputs):
    """Put in place and told as role pki does it; the server's process and its sessions stay."""
    version, name = cluster
    identity, renewed = f"{PKI}/postgresql", f"{PKI}/.versions/test"
    address = inputs["postgresql_listen_addresses"][-1]

    def served() -> str:
        shown = (
            f"openssl s_client -starttls postgres -connect {address}:5432 </dev/null 2>/dev/null | openssl x509 -noout -serial"
        )
        return host.check_output(shown)

    started = ask("SELECT pg_postmaster_start_time()")
    before, link = served(), host.check_output(f"readlink {identity}")
    host.check_output(
        f"cp -aL {identity} {renewed} && openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 1 "
        f"-subj /CN=renewed -keyout {renewed}/key.pem -out {renewed}/certificate.pem 2>/dev/null"
    )
    host.check_output(f"chgrp postgres {renewed}/* && chmod 0640 {renewed}/*")
    try:
        host.check_output(f"ln -sfn {renewed} {identity} && systemctl reload postgresql@{version}-{name}")
        host.check_output("sleep 1")
        assert served() == host.check_output(f"openssl x509 -noout -serial -in {renewed}/certificate.pem") != before
    finally:
        host.check_output(f"ln -sfn {link} {identity} && systemctl reload postgresql@{version}-{name} && rm -rf {renewed}")
    host.check_output("sleep 1")
    assert served() == before and ask("SELECT pg_postmaster_start_time()") == started


def test_access_rules_name_exactly_the_declared_databases(ask, inputs):
    found = ask("SELECT DISTINCT d FROM pg_hba_file_rules, unnest(database) d WHERE type = 'hostssl' ORDER BY d")
    assert found == sorted(database["name"] for database in inputs["postgresql_databases"])


def test_a_role_that_is_declared_no_longer_cannot_log_in(ask, inputs):
    may = ask("SELECT rolname FROM pg_roles WHERE rolcanlogin AND NOT rolsuper ORDER BY 1")
    silent = {role["name"] for role in inputs["postgresql_roles"] if not role.get("login", True)}
    declared = {inputs["postgresql_auth_query_role"], *(role["name"] for role in inputs["postgresql_roles"])}
    assert may == sorted(declared - silent)


@pytest.mark.once
def test_passwords_are_scram_verifiers_only(ask):
    assert ask("SELECT rolname FROM pg_authid WHERE rolpassword NOT LIKE 'SCRAM-SHA-256$%'") == []


def test_declared_roles_may_log_in_and_are_nobody_special(ask, inputs):
    for role in inputs["postgresql_roles"]:
        special = "rolsuper OR rolcreatedb OR rolcreaterole OR rolreplication OR rolbypassrls"
        answer = ask(f"SELECT rolcanlogin, ({special}), rolconnlimit FROM pg_roles WHERE rolname = '{role['name']}'")
        assert answer == [f"{'t' if role.get('login', True) else 'f'}|f|{role.get('connection_limit', -1)}"]


def second_logins(inputs):
    return [
        role for role in inputs["postgresql_roles"] if role.get("acts_as") not in (None, inputs["postgresql_auth_query_role"])
    ]


@pytest.fixture
def logged_in(host, inputs):
    """SQL of a session that a role began with its password, over the network as its programs do."""
    passfile = "/run/grunnfjell-test-pgpass-second"

    def run(role: str, database: str, sql: str):
        password = f"postgresql_role_passwords['{role}']"
        host.ansible("copy", f"dest={passfile} mode=0600 content='*:*:*:*:{{{{ {password} }}}}\n'", check=False)
        place = f"host=127.0.0.1 port={inputs['postgresql_port']} user={role} dbname={database} sslmode=require"
        place += f" {WITH_CERTIFICATE}"
        psql = f"psql -XqAtw -v ON_ERROR_STOP=1 -c {shlex.quote(sql)} {shlex.quote(place)}"
        return host.run(f"PGPASSFILE={passfile} {psql}")

    yield run
    host.check_output(f"rm -f {passfile}")


@pytest.mark.disruptive
def test_what_a_second_login_makes_belongs_to_the_application(ask, logged_in, inputs):
    if "127.0.0.1" not in inputs["postgresql_client_addresses"]:
        pytest.skip("nobody comes from the server itself here")
    for role in second_logins(inputs):
        owner = role["acts_as"]
        made = logged_in(role["name"], owner, "CREATE TABLE public.of_the_second (); SELECT current_user, session_user")
        try:
            assert made.stdout.splitlines() == [f"{owner}|{role['name']}"], made.stderr
            owned = "SELECT tableowner FROM pg_tables WHERE tablename = 'of_the_second'"
            assert ask(owned, database=owner) == [owner]
        finally:
            ask("DROP TABLE IF EXISTS public.of_the_second", database=owner)


def test_a_second_login_reaches_no_database_but_its_applications(ask, inputs):
    for role in second_logins(inputs):
        for database in inputs["postgresql_databases"]:
            (may,) = ask(f"SELECT has_database_privilege('{role['name']}', '{database['name']}', 'CONNECT')")
            assert may == ("t" if database["owner"] == role["acts_as"] else "f"), database["name"]


def test_a_database_belongs_to_its_owner_and_admits_nobody_undeclared(ask, inputs):
    names = ", ".join(f"'{role['name']}'" for role in inputs["postgresql_roles"])
    for database in inputs["postgresql_databases"]:
        name, owner = database["name"], database["owner"]
        assert ask(f"SELECT pg_get_userbyid(datdba) FROM pg_database WHERE datname = '{name}'") == [owner]
        may = ask(
            f"SELECT rolname FROM pg_roles WHERE rolname IN ({names}) "
            f"AND has_database_privilege(rolname, '{name}', 'CONNECT') ORDER BY 1"
        )
        admitted = {owner, *database.get("roles", [])}
        second = {role["name"] for role in inputs["postgresql_roles"] if role.get("acts_as") in admitted}
        assert may == sorted(admitted | second)


@pytest.mark.disruptive
@pytest.mark.once
@pytest.mark.parametrize(
    ("attributes", "visible"),
    [
        ("LOGIN", 1),
        ("LOGIN VALID UNTIL '2999-01-01'", 1),
        ("LOGIN VALID UNTIL '2000-01-01'", 0),
        ("NOLOGIN", 0),
        ("LOGIN SUPERUSER", 0),
        ("LOGIN REPLICATION", 0),
        ("LOGIN BYPASSRLS", 0),
    ],
)
def test_pgbouncer_gets_a_verifier_only_of_roles_that_may_log_in_today(ask, inputs, attributes, visible):
    for database in inputs["postgresql_databases"]:
        name = database["name"]
        # Rolled back: nothing of the visitor stays.
        answer = ask(
            f"BEGIN; CREATE ROLE visitor PASSWORD 'visitor-password' {attributes}; "
            f"GRANT CONNECT ON DATABASE {name} TO visitor; SELECT count(*) FROM pgbouncer.get_auth('visitor'); ROLLBACK;",
            database=name,
        )
        assert answer == [str(visible)], f"in database {name}"


@pytest.mark.disruptive
@pytest.mark.once
def test_pgbouncer_gets_no_verifier_of_a_role_of_another_database(ask, inputs):
    for database in inputs["postgresql_databases"]:
        answer = ask(
            "BEGIN; CREATE ROLE visitor LOGIN PASSWORD 'visitor-password'; "
            "SELECT count(*) FROM pgbouncer.get_auth('visitor'); ROLLBACK;",
            database=database["name"],
        )
        assert answer == ["0"]


def test_an_application_cannot_read_verifiers(ask, inputs):
    for database in inputs["postgresql_databases"]:
        name, owner = database["name"], database["owner"]
        said = ask(f"SET ROLE {owner}; SELECT * FROM pgbouncer.get_auth('{owner}')", database=name, expect_error=True)
        assert any("permission denied" in line for line in said), said
        said = ask(f"SET ROLE {owner}; SELECT rolpassword FROM pg_authid", database=name, expect_error=True)
        assert any("permission denied" in line for line in said), said


@pytest.mark.once
def test_the_function_cannot_be_led_astray_by_a_search_path(ask, inputs):
    for database in inputs["postgresql_databases"]:
        answer = ask(
            "SELECT prosecdef, proconfig, pg_get_userbyid(proowner) FROM pg_proc "
            "WHERE oid = 'pgbouncer.get_auth(text)'::regprocedure",
            database=database["name"],
        )
        assert answer == ['t|{"search_path=pg_catalog, pg_temp"}|postgres']


@pytest.mark.once
def test_no_verifier_stands_in_the_log(host):
    found = host.run(r"grep -rlE 'SCRAM-SHA-256\$[0-9]' /var/log/postgresql/")
    assert found.rc == 1, found.stdout + found.stderr


@pytest.mark.once
def test_the_server_may_open_the_files_that_it_counts_on(host, ask, cluster):
    version, name = cluster
    pid = host.check_output(f"head -1 /var/lib/postgresql/{version}/{name}/postmaster.pid")
    limit = int(host.check_output(f"awk '/^Max open files/ {{print $4}}' /proc/{pid}/limits"))
    assert limit > int(ask("SHOW max_files_per_process")[0])
