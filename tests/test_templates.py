"""Every template of the kit, rendered for both systems by Ansible itself, without a host.

The inventory is the example's, the hosts' facts come from a cache and the connection is local. Each play loads its role, whose
tasks are left out, so that defaults, constants and the inventory's bindings meet as in a real run. What a service's own
checker says of a file is asked on the hosts (molecule/<role>/tests).
"""

import ast
import configparser
import datetime
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[1]
EXAMPLE = ROOT / "inventories/example"
RELEASES = ("12", "13")
GIB = 1024**3
# Awkward on purpose: what a secret may hold must survive each file's own quoting.
SECRET = 'it\'s 100% "not" a # secret;'
SECRETS = {
    "vault_rabbitmq_erlang_cookie": "0123456789abcdef" * 4,
    "vault_rabbitmq_user_passwords": {"newsroom": SECRET},
    "vault_postgresql_role_passwords": {"newsroom": "not-a-secret", "pgbouncer": SECRET},
    "vault_application_tokens": {"newsroom": SECRET},
}
# As role application tells it once a release stands.
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
    "fingerprint": "0123456789ab",
}

# As role topology tells them, on each host its own.
FLOWS = [
    {
        "purpose": "ssh",
        "protocol": "tcp",
        "port": 22,
        "source": {"kind": "place", "name": "operations", "addresses": ["198.51.100.0/24", "2001:db8::/32"]},
        "destination": {"kind": "host", "name": "broker1", "addresses": ["192.0.2.11"]},
        "reason": "",
        "user": "",
    },
    {
        "purpose": "package_mirror",
        "protocol": "tcp",
        "port": 443,
        "source": {"kind": "host", "name": "broker1", "addresses": ["192.0.2.11"]},
        "destination": {"kind": "place", "name": "packages", "addresses": ["mirror.example.net"]},
        "reason": "",
        "user": "",
    },
]


def renderings(role: str) -> dict[str, str]:
    """The role's templates, and those of templates/ that its constants render, each with the expression that renders it."""
    own = ROOT / "roles" / role / "templates"
    found = {
        str(path.relative_to(ROOT)): f"lookup('grunnfjell.platform.rendered', '{path}')" for path in sorted(own.rglob("*.j2"))
    }
    constants = ROOT / "roles" / role / "vars/main.yml"
    for name, value in (yaml.safe_load(constants.read_text()) if constants.exists() else {}).items():
        for source in re.findall(r"lookup\('grunnfjell\.platform\.rendered', '([^']+)'", value if isinstance(value, str) else ""):
            if not (own / source).exists():
                found[f"templates/{source}"] = name
    return found


CARRIED = yaml.safe_load((EXAMPLE / "group_vars/all/topology.yml").read_text())["topology_roles"]
# A role that the example does not carry is rendered with the inputs of its scenario.
OTHERS = sorted({path.name for path in (ROOT / "roles").iterdir()} - set(CARRIED))
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
    scenario = ROOT / f"molecule/{role}/inventory/group_vars/{role}"
    inputs = sorted(map(str, scenario.glob("*.yml"))) if role in OTHERS else []
    return {"hosts": hosts, "vars_files": inputs, "tasks": [load, *render]}


def fact_of(role: str, path: str) -> str:
    return "rendered_" + re.sub(r"\W", "_", f"{role}_{path}")


def start(home: Path, release: str, *arguments: str) -> subprocess.Popen[str]:
    inventory = home / "inventory"
    shutil.copytree(EXAMPLE, inventory)
    given = {
        **SECRETS,
        "application_current": CURRENT,
        "topology_flows": FLOWS,
        "topology_program_logs": ["/var/log/celery/*.log", "/var/log/supervisor/*.log"],
        "ansible_connection": "local",
        "ansible_python_interpreter": sys.executable,
    }
    (inventory / "group_vars/all/given.yml").write_text(yaml.safe_dump(given))
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
    (home / "templates").symlink_to(ROOT / "templates")  # as beside the kit's playbooks
    (home / "password").write_text("not-a-secret\n")
    environment = {
        **os.environ,
        "ANSIBLE_CACHE_PLUGIN": "ansible.builtin.jsonfile",
        "ANSIBLE_CACHE_PLUGIN_CONNECTION": str(home / "facts"),
        "ANSIBLE_VAULT_PASSWORD_FILE": str(home / "password"),
    }
    command = [Path(sys.executable).parent / "ansible-playbook", "-i", inventory, home / "render.yml", *arguments]
    return subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


@pytest.fixture(scope="module")
def rendered(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What stands in each file, by "Debian RELEASE, HOST, ROLE: TARGET"."""
    homes = {release: tmp_path_factory.mktemp(f"debian{release}-") for release in RELEASES}
    runs = {release: start(home, release) for release, home in homes.items()}
    texts = {}
    for release, run in runs.items():
        said, _ = run.communicate()
        assert run.returncode == 0, said
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


def ini(text: str, strict: bool = True) -> configparser.ConfigParser:
    parser = configparser.RawConfigParser(strict=strict, delimiters=("=",), comment_prefixes=("#", ";"), interpolation=None)
    parser.optionxform = str
    parser.read_string(text)
    assert parser.sections()
    return parser


def unit(text: str) -> None:
    # A key may come twice in a unit: systemd adds to a list, or empties it first.
    parser = ini(text, strict=False)
    known = {"Unit", "Service", "Socket", "Timer", "Install", "Journal", "Manager", "Coredump", "Time"}
    assert set(parser.sections()) <= known


def programs(text: str) -> None:
    for name, section in ini(text).items():
        if name != "DEFAULT":
            assert name.startswith(("program:", "fcgi-program:")) and shlex.split(section["command"])
            # supervisord expands what stands behind a single percent sign.
            assert not re.search(r"(?<!%)%(%%)*(?!%)", section["command"].replace("%(process_num)d", "0"))


def settings(pattern: str) -> Callable[[str], None]:
    """Lines that each match, and no key twice."""

    def parse(text: str) -> None:
        matches = [re.fullmatch(pattern, line) for line in lines_of(text)]
        assert matches and all(matches), [line for line, match in zip(lines_of(text), matches, strict=True) if not match]
        keys = [match.group("key") for match in matches if match]
        assert len(keys) == len(set(keys)), keys

    return parse


def lines_of(text: str) -> list[str]:
    return [line for line in text.splitlines() if line.strip() and not line.startswith(("#", "%"))]


def python(text: str) -> None:
    body = ast.parse(text).body
    assert [ast.unparse(line) for line in body[:2]] == ["import grunnfjell_privacy as _privacy", "_privacy.install()"]
    body = body[2:]
    values = {node.targets[0].id: ast.literal_eval(node.value) for node in body}
    assert len(values) == len(body) > 10


def environment(text: str) -> None:
    """Shell assignments, whose values come out as they went in."""
    values = dict(word.split("=", 1) for line in lines_of(text) for word in shlex.split(line))
    assert len(values) == len(lines_of(text)) and values["NEWSROOM_TOKEN"] == SECRET
    shell(text)


def shell(text: str) -> None:
    subprocess.run(["sh", "-n"], input=text, text=True, check=True)


def apt(text: str) -> None:
    # apt-config reads what stands on its input beside this machine's own settings.
    said = subprocess.run(
        ["apt-config", "--config-file=/dev/stdin", "dump"], input=text, capture_output=True, text=True, check=True
    )
    assert 'Unattended-Upgrade::Automatic-Reboot "false";' in said.stdout


def perl(text: str) -> None:
    subprocess.run(["perl", "-c"], input=text, capture_output=True, text=True, check=True)


def service_file(text: str) -> None:
    assert set(ini(text)["newsroom"]) == {"host", "port", "dbname", "user", "password", "sslmode"}


def pgbouncer(text: str) -> None:
    parser = ini(text)
    assert parser.sections() == ["databases", "users", "pgbouncer"]
    # Debian 12's PgBouncer stops at a key that it does not know.
    assert parser["pgbouncer"]["listen_port"] == "6432"


def userlist(text: str) -> None:
    (line,) = [line for line in text.splitlines() if not line.startswith(";")]
    match = re.fullmatch(r'"((?:[^"]|"")+)" "((?:[^"]|"")+)"', line)
    assert match and (match[1], match[2].replace('""', '"')) == ("pgbouncer", SECRET)


def hba(text: str) -> None:
    kinds = {line.split()[0]: len(shlex.split(line)) for line in lines_of(text)}
    assert kinds == {"local": 4, "hostssl": 6}


def nftables(text: str) -> None:
    """nft itself reads it in tests/test_firewall.py; here each chain of the hooks ends in a refusal."""
    chains = re.findall(
        r"chain (?:input|output|forward) \{\n\t\ttype filter hook \w+ [^\n]* policy drop;\n(.*?)\n\t\}", text, re.DOTALL
    )
    assert len(chains) == 3 and text.count("{") == text.count("}")
    assert all(re.match(r"\t\tcounter (drop|reject)\b", chain.splitlines()[-1]) for chain in chains)


def erlang_terms(text: str) -> None:
    terms = lines_of(text)
    assert terms and all(line.startswith("{") and line.endswith("}.") for line in terms)
    assert all(text.count(left) == text.count(right) for left, right in ("{}", "[]"))


def erlang_atoms(text: str) -> None:
    (line,) = lines_of(text)
    assert re.fullmatch(r"\[([a-z][a-z0-9_]*(, [a-z][a-z0-9_]*)*)?\]\.", line)


def logrotate(text: str) -> None:
    if not lines_of(text):
        return  # no program of supervisord's runs on the host
    body = re.fullmatch(r"(?:/\S+ ?)+\{\n(.*)\}\n", "".join(f"{line}\n" for line in lines_of(text)), re.DOTALL)
    assert body and body[1].count("postrotate") == body[1].count("endscript") == 1


def tmpfiles(text: str) -> None:
    assert all(re.fullmatch(r"x /\S+|e /\S+ - - - m:[1-9]\d*d", line) for line in lines_of(text)) and lines_of(text)


def time_sources(text: str) -> None:
    assert all(re.fullmatch(r"server \S+ iburst", line) for line in lines_of(text))


def lines(pattern: str) -> Callable[[str], None]:
    """Lines that each match."""

    def parse(text: str) -> None:
        wrong = [line for line in lines_of(text) if not re.fullmatch(pattern, line)]
        assert lines_of(text) and not wrong, wrong

    return parse


def of_scenarios() -> list[tuple[str, Callable[[str], None]]]:
    """What molecule/<role>/templates.yml says of the role's own files: the pattern of a path, and that of its lines."""
    found: dict[str, str] = {}
    for path in sorted(ROOT.glob("molecule/*/templates.yml")):
        found |= yaml.safe_load(path.read_text())
    return [(pattern, lines(line)) for pattern, line in found.items()]


# How each file is read by whom it is for. A template of a new kind says so here, or in its role's scenario (of_scenarios).
PARSERS: tuple[tuple[str, Callable[[str], Any]], ...] = (
    (r"/etc/systemd/.*\.(conf|service|timer)", unit),
    (r"/etc/.*\.nft", nftables),
    (r"/etc/logrotate\.d/.*", logrotate),
    (r"/etc/tmpfiles\.d/.*\.conf", tmpfiles),
    (r"/etc/chrony/sources\.d/.*\.sources", time_sources),
    (r"/etc/supervisor/conf\.d/.*\.conf", programs),
    (r"/etc/supervisor/programs/.*", shell),
    (r"/etc/sysctl\.d/.*\.conf", settings(r"(?P<key>[A-Za-z0-9_.*-]+) = \S.*")),
    (r"/etc/ssh/sshd_config\.d/.*\.conf", settings(r"(?P<key>[A-Z][A-Za-z0-9]+) \S.*")),
    (r"/etc/security/limits\.d/.*\.conf", settings(r"(?P<key>\S+ (?:hard|soft) [a-z]+) \d+")),
    (r"/etc/modprobe\.d/.*\.conf", settings(r"(?P<key>blacklist [a-z0-9_-]+|install [a-z0-9_-]+ /bin/false)")),
    (r"/etc/apt/apt\.conf\.d/.*", apt),
    (r"/etc/needrestart/.*\.conf", perl),
    (r"/etc/profile\.d/.*\.sh", shell),
    (r"/etc/postgresql/.*_hba\.conf", hba),
    (r"/etc/postgresql/.*/conf\.d/.*\.conf", settings(r"(?P<key>[a-z_.]+) = '(?:[^'\\]|''|\\\\)*'")),
    (r"/etc/rabbitmq/rabbitmq\.conf", settings(r"(?P<key>[a-z0-9_.]+) = \S+")),
    (r"/etc/rabbitmq/rabbitmq-env\.conf", shell),
    (r"/etc/rabbitmq/inetrc", erlang_terms),
    (r"/etc/rabbitmq/enabled_plugins", erlang_atoms),
    (r"/etc/pgbouncer/pgbouncer\.ini", pgbouncer),
    (r"/etc/pgbouncer/userlist\.txt", userlist),
    (r".*\.py", python),
    (r"/etc/application/environment", environment),
    (r"/etc/application/pg_service\.conf", service_file),
    (r".*\.ini", ini),
    (r".*\.json", json.loads),
    (r".*\.ya?ml", yaml.safe_load),
)


def parser_of(path: str) -> Callable[[str], Any] | None:
    return next((parse for pattern, parse in (*of_scenarios(), *PARSERS) if re.fullmatch(pattern, path)), None)


def test_every_template_of_the_kit_is_rendered_for_both_systems(rendered: dict[str, str]) -> None:
    files = {str(path.relative_to(ROOT)) for home in ("roles", "templates/etc") for path in (ROOT / home).rglob("*.j2")}
    assert files and files == {path for paths in RENDERINGS.values() for path in paths}, "a template that no role renders"
    for release in RELEASES:
        wanted = {(role, target(path)) for role, paths in RENDERINGS.items() for path in paths}
        found = {tuple(name.split(", ")[2].split(": ")) for name in rendered if name.startswith(f"Debian {release},")}
        assert found == wanted


def test_each_file_is_one_that_its_reader_can_read(rendered: dict[str, str]) -> None:
    for name, text in rendered.items():
        path = name.split(": ")[1]
        parse = parser_of(path)
        assert parse, f"{path} is of a kind that PARSERS does not know: say how it is read"
        try:
            parse(text)
        except Exception as error:
            raise AssertionError(f"{name}: {error!r}\n{text}") from error


def test_each_file_ends_its_last_line_and_leaves_nothing_to_render(rendered: dict[str, str]) -> None:
    for name, text in rendered.items():
        assert text.endswith("\n") and not text.endswith("\n\n"), name
        assert not re.search(r"[ \t]$", text, re.MULTILINE), f"{name}: blanks at the end of a line"
        assert not re.search(r"\{\{|\{%|\{#|<.*object at 0x|AnsibleUndefined|Undefined\(", text), name


def test_each_file_says_that_it_is_managed_and_by_which_inputs(rendered: dict[str, str]) -> None:
    mark = re.compile(r"[#;%]+ Managed by Grunnfjell: edit the inventory \(([a-z_]+)\*?\), not this file\.")
    for name, text in rendered.items():
        first = next(line for line in text.splitlines() if not line.startswith("#!"))
        found = mark.fullmatch(first)
        assert found, f"{name} begins with {first!r}"
        role = name.split(", ")[2].split(": ")[0]
        options = yaml.safe_load((ROOT / "roles" / role / "meta/argument_specs.yml").read_text())["argument_specs"]["main"][
            "options"
        ]
        assert any(option.startswith(found.group(1)) for option in options), f"{name} names the input {found.group(1)}"


def test_no_file_changes_with_the_day() -> None:
    """A date in a file changes it at every run: the templates ask for none, and neither do the values that they render."""
    clock = re.compile(r"now\(|date_time|strftime|lookup\('(ansible\.builtin\.)?pipe|ansible_managed|\| *(random|shuffle)\b")
    for pattern in ("roles/*/templates/**/*", "templates/**/*", "roles/*/vars/*.yml", "roles/*/defaults/*.yml"):
        for path in (path for path in ROOT.glob(pattern) if path.is_file()):
            assert not clock.search(path.read_text()), path


def test_what_is_rendered_holds_no_date(rendered: dict[str, str]) -> None:
    today = datetime.date.today().isoformat()
    assert not [name for name, text in rendered.items() if today in text]


def test_a_system_gets_no_setting_that_its_service_does_not_know(rendered: dict[str, str]) -> None:
    old, new = (rendered[f"Debian {release}, worker1, pgbouncer: /etc/pgbouncer/pgbouncer.ini"] for release in RELEASES)
    assert "max_prepared_statements" not in old and "max_prepared_statements = 200" in new


# One fault each, and the test that must see it.
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
        ("/etc/application/celeryconfig.py", "a = {{ b }}\n"),
        ("/etc/application/environment", "A=it's\n"),
    ],
)
def test_a_file_that_its_reader_cannot_read_is_refused(path: str, fault: str) -> None:
    parse = parser_of(path)
    assert parse
    # Review finding H9: a reader that this machine lacks is no refusal, so OSError is none of these.
    with pytest.raises((AssertionError, ValueError, SyntaxError, configparser.Error, subprocess.CalledProcessError)):
        parse(fault)


@pytest.mark.parametrize("role", sorted(path.name for path in (ROOT / "roles").iterdir()))
def test_a_role_renders_without_a_copy_of_every_variable(role: str) -> None:
    """Which Ansible's own lookup makes for each file: a quarter of what the control machine does in a run without changes."""
    files = [
        path
        for path in (ROOT / "roles" / role).rglob("*.yml")
        if re.search(r"lookup\('(ansible\.builtin\.)?template'", path.read_text())
    ]
    assert files == [], "write lookup('grunnfjell.platform.rendered', ...)"
