"""`make verify` only reads from a working fleet, except for one job. Review finding 3."""

from pathlib import Path

import pytest

from lab.ci import disturbances
from lab.ci.disturbances import folders, unmarked
from lab.machine import REPOSITORY


@pytest.mark.parametrize("home", folders(), ids=lambda home: home.parent.name)
def test_a_test_that_disturbs_a_host_is_marked(home: Path) -> None:
    disturbances = {name: sorted(what) for name, what in unmarked(home).items()}
    assert disturbances == {}, "mark them @pytest.mark.disruptive, or let them only read"


def scan(tmp_path: Path, text: str, helper: str = "", conftest: str = "") -> list[str]:
    home, molecule = tmp_path / "role" / "tests", tmp_path
    home.mkdir(parents=True)
    (molecule / "shared").mkdir()
    (molecule / "conftest.py").write_text(conftest)
    (home / "helper.py").write_text(helper)
    (home / "test_role.py").write_text(f"import pytest\n{text}\n")
    return [what.partition(":")[0] for disturbances in unmarked(home, molecule).values() for what in disturbances]


@pytest.mark.parametrize(
    ("line", "what"),
    [
        ("host.run('systemctl restart supervisor')", "drives a unit"),
        ("host.run('systemctl --no-block reload ssh')", "drives a unit"),
        ("host.check_output(f'systemctl kill {unit}')", "drives a unit"),
        ("host.run('supervisorctl stop producer:producer_0')", "drives a program"),
        ("host.run('id intruder || useradd --create-home intruder')", "edits accounts"),
        ("host.run(f'rm {path}')", "removes"),
        ("host.run('cd /tmp && rm -rf x')", "removes"),
        ("host.check_output(f\"echo 'PasswordAuthentication yes' > {path}\")", "redirects into a file"),
        ("host.check_output(f'printf %s {x} >> {home}/packed')", "redirects into a file"),
        ("host.check_output('install -m 600 a b')", "writes"),
        ("play(inventory, 'playbooks/pki.yml')", "runs a playbook"),
        ("host.ansible('copy', 'dest=/run/x', check=False)", "runs a module"),
        ("host.run('systemd-run --quiet true')", "starts a unit"),
        ("socket.create_server(('', 1))", "listens"),
        ("ask('CREATE TABLE x ()')", "changes a database"),
        ("ctl('add_user', name)", "changes a broker"),
        ("connection.publish(queue, body)", "publishes"),
        ("host.ansible.get_variables()['ansible_ssh_private_key_file']", "needs what an inventory may lack"),
    ],
)
def test_a_line_that_disturbs_is_found(tmp_path, line, what):
    assert what in scan(tmp_path, f"def test_it(host):\n    {line}")


@pytest.mark.parametrize(
    "line",
    [
        "host.check_output('systemctl show --property=MainPID supervisor')",
        "host.check_output('systemctl is-enabled apt-daily.timer')",
        "host.run('supervisorctl status; supervisorctl pid all; supervisorctl reread')",
        "host.run('ls /x 2>/dev/null >&2; echo done')",
        "host.run(': < /dev/tcp/198.51.100.1/9')",
        "host.run('awk \\'/^Max/ {print $4}\\' /proc/1/limits')",
        "host.ansible('debug', 'msg=x', check=False)",
        "play(inventory, 'site.yml', '--check')",
        "variables.get('ansible_ssh_private_key_file')",
        "ask('SELECT rolname FROM pg_roles')",
    ],
)
def test_a_line_that_only_reads_is_not_found(tmp_path, line):
    assert scan(tmp_path, f"def test_it(host):\n    '''Never rm a file.'''\n    {line}") == []


def test_a_disturbance_is_found_in_fixtures_helpers_constants_and_marks(tmp_path):
    assert scan(tmp_path / "a", "import pytest\ndef test_it(stopped): ...", conftest="def stopped(host): host.run('rm x')")
    assert scan(tmp_path / "b", "from helper import work\ndef test_it(): work()", helper="def work(host): host.run('rm x')")
    assert scan(tmp_path / "c", "WORK = 'touch x'\ndef test_it(host): host.run(WORK)")
    assert scan(tmp_path / "d", "@pytest.mark.parametrize('do', [lambda c: c.delete('q')])\ndef test_it(do): do()")
    assert scan(tmp_path / "e", "def used(host): host.run('rm x')\n@pytest.mark.usefixtures('used')\ndef test_it(): ...")


@pytest.mark.parametrize("mark", ["@pytest.mark.disruptive", "@pytest.mark.job"])
def test_a_marked_test_may_disturb(tmp_path, mark):
    assert scan(tmp_path, f"{mark}\ndef test_it(host): host.run('rm x')") == []
    assert scan(tmp_path / "module", "pytestmark = pytest.mark.disruptive\ndef test_it(host): host.run('rm x')") == []


def test_every_folder_of_verify_is_checked():
    assert len(folders()) >= 10 and all(list(home.glob("test_*.py")) for home in folders())
    assert [playbook for playbook in disturbances.READING if not (REPOSITORY / playbook).is_file()] == []
