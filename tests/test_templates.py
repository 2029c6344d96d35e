"""Every template of the kit, rendered for both systems by Ansible itself, without a host.

The inventory is the example, the facts come from a cache and the connection is local. Each play loads its role without the
tasks, so defaults, constants and the bindings of the inventory meet as in a real run. The checkers of the services read the
files on hosts (molecule/<role>/tests).
"""

import configparser
import datetime
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from file_readers import SECRET, parser_of
from fleets import end, flow

from lab.machine import REPOSITORY

EXAMPLE = REPOSITORY / "inventories/example"
RELEASES = ("12", "13")
GIB = 1024**3
SECRETS = {
    "vault_rabbitmq_erlang_cookie": "0123456789abcdef" * 4,
    "vault_rabbitmq_user_passwords": {"newsroom": SECRET},
    "vault_postgresql_role_passwords": {"newsroom": "not-a-secret", "pgbouncer": SECRET},
    "vault_application_tokens": {"newsroom": SECRET},
}
# As role application sets it once a release is built.
CURRENT = {
    "name": "newsroom",
    "release": "0123456789ab",
    "directory": "/opt/newsroom/releases/0123456789ab",
    "root": "/opt/newsroom",
    "keep": 3,
    "settings": "/etc/newsroom/versions/0123456789ab",
    "run": "/opt/newsroom/releases/0123456789ab/run",
    "state": "/var/lib/newsroom",
    "user": "www-data",
    "celery_app": "newsroom.celery",
    "promises": {},
    "waivers": {},
    "waived_queues": {},
    "fingerprint": "0123456789ab",
}

# As role topology sets them on each host.
BROKER = end("broker1", "192.0.2.11")
FLOWS = [
    flow(end("operations", "198.51.100.0/24", "2001:db8::/32", kind="site"), BROKER, 22, "ssh"),
    flow(BROKER, end("packages", "mirror.example.net", kind="site"), 443, "package_mirror"),
]


def renderings(role: str) -> dict[str, str]:
    """The role's templates, and those of templates/ that its constants render, each with the expression that renders it."""
    home = REPOSITORY / "roles" / role / "templates"
    expressions = {
        str(path.relative_to(REPOSITORY)): f"lookup('grunnfjell.platform.rendered', '{path}')"
        for path in sorted(home.rglob("*.j2"))
    }
    constants = REPOSITORY / "roles" / role / "vars/main.yml"
    for name, value in (yaml.safe_load(constants.read_text()) if constants.exists() else {}).items():
        for source in re.findall(r"lookup\('grunnfjell\.platform\.rendered', '([^']+)'", value if isinstance(value, str) else ""):
            if not (home / source).exists():
                expressions[f"templates/{source}"] = name
    return expressions


CARRIED = yaml.safe_load((EXAMPLE / "group_vars/all/topology.yml").read_text())["topology_roles"]
# A role that the example does not carry is rendered with the inputs of its scenario.
OTHERS = sorted({path.name for path in (REPOSITORY / "roles").iterdir()} - set(CARRIED))
TOPOLOGY = CARRIED | dict.fromkeys(OTHERS, "all")
RENDERINGS = {role: renderings(role) for role in TOPOLOGY}


def play(role: str, groups: str | list[str]) -> dict[str, Any]:
    """Render the role's templates on the first host of each of its groups, into facts that the cache keeps as files."""
    load = {
        "name": "Load the role for its defaults and constants, and leave its tasks out",
        "tags": ["never"],
        "ansible.builtin.import_role": {"name": f"grunnfjell.platform.{role}", "rolespec_validate": False},
    }
    render = [
        {
            "name": f"Render {path}",
            "ansible.builtin.set_fact": {fact_of(role, path): f"{{{{ {expression} }}}}", "cacheable": True},
        }
        for path, expression in RENDERINGS[role].items()
    ]
    hosts = ":".join(f"{group}[0]" for group in ([groups] if isinstance(groups, str) else groups))
    scenario = REPOSITORY / f"molecule/{role}/inventory/group_vars/{role}"
    inputs = sorted(map(str, scenario.glob("*.yml"))) if role in OTHERS else []
    return {"hosts": hosts, "vars_files": inputs, "tasks": [load, *render]}


def fact_of(role: str, path: str) -> str:
    return "rendered_" + re.sub(r"\W", "_", f"{role}_{path}")


def start(home: Path, release: str, *arguments: str) -> subprocess.Popen[str]:
    inventory = home / "inventory"
    shutil.copytree(EXAMPLE, inventory)
    variables = {
        **SECRETS,
        "application_current": CURRENT,
        "topology_flows": FLOWS,
        "topology_program_logs": ["/var/log/celery/*.log", "/var/log/supervisor/*.log"],
        "ansible_connection": "local",
        "ansible_python_interpreter": sys.executable,
    }
    (inventory / "group_vars/all/given.yml").write_text(yaml.safe_dump(variables))
    hosts = [
        name
        for group in yaml.safe_load((inventory / "hosts.yml").read_text())["all"]["children"].values()
        for name in group.get("hosts", {})
    ]
    (home / "facts").mkdir()
    for host in hosts:
        facts = {
            "distribution": "Debian",
            "distribution_major_version": release,
            "hostname": host,
            "resources": {"memory_bytes": 4 * GIB, "cpus": 2},
            "installed_packages": [],
        }
        payload = {f"ansible_{key}": value for key, value in facts.items()} | {"_ansible_facts_gathered": True}
        (home / "facts" / f"s1_{host}").write_text(json.dumps({"__payload__": json.dumps(payload)}))
    (home / "render.yml").write_text(yaml.safe_dump([play(role, groups) for role, groups in TOPOLOGY.items()]))
    (home / "templates").symlink_to(REPOSITORY / "templates")  # as beside the kit's playbooks
    (home / "password").write_text("not-a-secret\n")
    environment = {
        **os.environ,
        "ANSIBLE_CACHE_PLUGIN": "ansible.builtin.jsonfile",
        "ANSIBLE_CACHE_PLUGIN_CONNECTION": str(home / "facts"),
        "ANSIBLE_VAULT_PASSWORD_FILE": str(home / "password"),
    }
    command = [Path(sys.executable).parent / "ansible-playbook", "-i", inventory, home / "render.yml", *arguments]
    return subprocess.Popen(command, cwd=REPOSITORY, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


@pytest.fixture(scope="module")
def rendered(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The text of each file, by "Debian RELEASE, HOST, ROLE: TARGET"."""
    homes = {release: tmp_path_factory.mktemp(f"debian{release}-") for release in RELEASES}
    runs = {release: start(home, release) for release, home in homes.items()}
    texts = {}
    for release, run in runs.items():
        output, _ = run.communicate()
        assert run.returncode == 0, output
        for cached in (homes[release] / "facts").iterdir():
            facts = json.loads(json.loads(cached.read_text())["__payload__"])
            for role, paths in RENDERINGS.items():
                for path in paths:
                    if (text := facts.get(fact_of(role, path))) is not None:
                        name = f"Debian {release}, {cached.name.removeprefix('s1_')}, {role}: {target(path)}"
                        texts[name] = text["value"] if isinstance(text, dict) else text
    return texts


def target(path: str) -> str:
    """Where a template's file goes on the host."""
    return "/" + path.partition("templates/")[2].removesuffix(".j2")


def test_every_template_of_the_kit_is_rendered_for_both_systems(rendered: dict[str, str]) -> None:
    files = {
        str(path.relative_to(REPOSITORY)) for home in ("roles", "templates/etc") for path in (REPOSITORY / home).rglob("*.j2")
    }
    assert files and files == {path for paths in RENDERINGS.values() for path in paths}, "a template is rendered by no role"
    for release in RELEASES:
        expected = {(role, target(path)) for role, paths in RENDERINGS.items() for path in paths}
        names = {tuple(name.split(", ")[2].split(": ")) for name in rendered if name.startswith(f"Debian {release},")}
        assert names == expected


def test_each_file_can_be_read_by_its_program(rendered: dict[str, str]) -> None:
    for name, text in rendered.items():
        path = name.split(": ")[1]
        parse = parser_of(path)
        assert parse, f"{path} is of a kind that tests/file_readers.py cannot read: add its reader"
        try:
            parse(text)
        except Exception as error:
            raise AssertionError(f"{name}: {error!r}\n{text}") from error


def test_each_file_ends_with_one_newline_and_contains_no_template_syntax(rendered: dict[str, str]) -> None:
    for name, text in rendered.items():
        assert text.endswith("\n") and not text.endswith("\n\n"), name
        assert not re.search(r"[ \t]$", text, re.MULTILINE), f"{name}: blanks at the end of a line"
        assert not re.search(r"\{\{|\{%|\{#|<.*object at 0x|AnsibleUndefined|Undefined\(", text), name


def test_each_file_names_the_inputs_that_manage_it(rendered: dict[str, str]) -> None:
    mark = re.compile(r"[#;%]+ Managed by Grunnfjell: edit the inventory \(([a-z_]+)\*?\), not this file\.")
    for name, text in rendered.items():
        if name.endswith(".json"):  # which has no comments
            continue
        first = next(line for line in text.splitlines() if not line.startswith("#!"))
        match = mark.fullmatch(first)
        assert match, f"{name} begins with {first!r}"
        role = name.split(", ")[2].split(": ")[0]
        options = yaml.safe_load((REPOSITORY / "roles" / role / "meta/argument_specs.yml").read_text())["argument_specs"]["main"][
            "options"
        ]
        assert any(option.startswith(match[1]) for option in options), f"{name} names the input {match[1]}"


def test_no_template_asks_for_the_date() -> None:
    """A date in a file would change it in every run."""
    clock = re.compile(r"now\(|date_time|strftime|lookup\('(ansible\.builtin\.)?pipe|ansible_managed|\| *(random|shuffle)\b")
    for pattern in ("roles/*/templates/**/*", "templates/**/*", "roles/*/vars/*.yml", "roles/*/defaults/*.yml"):
        for path in (path for path in REPOSITORY.glob(pattern) if path.is_file()):
            assert not clock.search(path.read_text()), path


def test_no_rendered_file_contains_the_date(rendered: dict[str, str]) -> None:
    today = datetime.date.today().isoformat()
    assert not [name for name, text in rendered.items() if today in text]


def test_a_release_gets_no_setting_that_its_service_does_not_know(rendered: dict[str, str]) -> None:
    old, new = (rendered[f"Debian {release}, worker1, pgbouncer: /etc/pgbouncer/pgbouncer.ini"] for release in RELEASES)
    assert "max_prepared_statements" not in old and "max_prepared_statements = 200" in new


@pytest.mark.parametrize(
    ("path", "fault"),
    [
        ("/etc/systemd/system/x.service.d/grunnfjell.conf", "[Servize]\nLimitNOFILE=1\n"),
        ("/etc/systemd/system/x.timer", "[Timmer]\nOnBootSec=1\n"),
        ("/etc/x/rules.nft", "chain input {\n\t\ttype filter hook input priority filter; policy accept;\n\t\taccept\n\t}\n"),
        ("/etc/supervisor/conf.d/programs.conf", "[program:a]\ncommand=/run celery -n %h\n"),
        ("/etc/supervisor/conf.d/programs.conf", "[program:a]\ncommand=a\n[program:a]\ncommand=b\n"),
        ("/etc/sysctl.d/60-grunnfjell.conf", "vm.swappiness = \n"),
        ("/etc/ssh/sshd_config.d/00-grunnfjell.conf", "PermitRootLogin no\nPermitRootLogin yes\n"),
        ("/etc/apt/apt.conf.d/60grunnfjell-updates", 'Unattended-Upgrade::Automatic-Reboot "false'),
        ("/etc/needrestart/conf.d/grunnfjell.conf", "$nrconf{restart} = 'a\n"),
        ("/etc/postgresql/main/grunnfjell_hba.conf", "local all postgres peer\nhost all all 0.0.0.0/0 trust\n"),
        ("/etc/postgresql/main/conf.d/grunnfjell.conf", "work_mem = 'it's'\n"),
        ("/etc/rabbitmq/rabbitmq.conf", "heartbeat = 20\nheartbeat = 30\n"),
        ("/etc/rabbitmq/rabbitmq-env.conf", 'ERL="\n'),
        ("/etc/rabbitmq/inetrc", "{lookup, [file, native]}\n"),
        ("/etc/rabbitmq/enabled_plugins", "[rabbitmq_prometheus,].\n"),
        ("/etc/pgbouncer/userlist.txt", '"a" "b"c"\n'),
        ("/etc/application/grunnfjell_settings.py", "a = {{ b }}\n"),
        ("/etc/application/environment", "A=it's\n"),
    ],
)
def test_a_file_that_its_reader_cannot_read_is_refused(path: str, fault: str) -> None:
    parse = parser_of(path)
    assert parse
    # Review finding H9: without OSError, since a reader that this machine lacks refuses nothing.
    with pytest.raises((AssertionError, ValueError, SyntaxError, configparser.Error, subprocess.CalledProcessError)):
        parse(fault)


@pytest.mark.parametrize("role", sorted(path.name for path in (REPOSITORY / "roles").iterdir()))
def test_a_role_renders_without_a_copy_of_every_variable(role: str) -> None:
    """The lookup of Ansible copies them for each file, a quarter of the control node's work in a run without changes."""
    files = [
        path
        for path in (REPOSITORY / "roles" / role).rglob("*.yml")
        if re.search(r"lookup\('(ansible\.builtin\.)?template'", path.read_text())
    ]
    assert files == [], "write lookup('grunnfjell.platform.rendered', ...)"
