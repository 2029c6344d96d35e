"""How each rendered file is read by the program that it is for."""

import ast
import configparser
import json
import re
import shlex
import subprocess
from collections.abc import Callable
from typing import Any

import yaml

from lab.machine import REPOSITORY

# Awkward on purpose: a secret must survive the quoting of every file.
SECRET = 'it\'s 100% "not" a # secret;'


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
            # supervisord expands what follows a single percent sign.
            assert not re.search(r"(?<!%)%(%%)*(?!%)", section["command"].replace("%(process_num)d", "0"))


def lines(pattern: str) -> Callable[[str], None]:
    """Lines that each match; where the pattern names a group `key`, no key occurs twice."""

    def parse(text: str) -> None:
        wrong = [line for line in lines_of(text) if not re.fullmatch(pattern, line)]
        assert lines_of(text) and not wrong, wrong
        keys = [re.fullmatch(pattern, line)["key"] for line in lines_of(text) if "(?P<key>" in pattern]
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
    # apt-config adds its input to the settings of this machine.
    command = ["apt-config", "--config-file=/dev/stdin", "dump"]
    dump = subprocess.run(command, input=text, capture_output=True, text=True, check=True).stdout
    assert 'Unattended-Upgrade::Automatic-Reboot "false";' in dump


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
    """tests/test_firewall.py has nft read it; here each chain of the hooks must end in a refusal."""
    chains = re.findall(
        r"chain (?:input|output|forward) \{\n\t\ttype filter hook \w+ [^\n]* policy drop;\n(.*?)\n\t\}", text, re.DOTALL
    )
    assert len(chains) == 3 and text.count("{") == text.count("}")
    assert all(re.match(r"\t\tcounter (drop|reject)\b", chain.splitlines()[-1]) for chain in chains)


def erlang_terms(text: str) -> None:
    terms = lines_of(text)
    assert terms and all(line.startswith("{") and line.endswith("}.") for line in terms)
    assert all(text.count(left) == text.count(right) for left, right in ("{}", "[]"))


def erlang_term(text: str) -> None:
    """One term over several lines."""
    assert "".join(lines_of(text)).endswith("].") and text.count("].") == 1
    assert all(text.count(left) == text.count(right) for left, right in ("{}", "[]"))


def erlang_atoms(text: str) -> None:
    (line,) = lines_of(text)
    assert re.fullmatch(r"\[([a-z][a-z0-9_]*(, [a-z][a-z0-9_]*)*)?\]\.", line)


def logrotate(text: str) -> None:
    if not lines_of(text):
        return  # no program of supervisord runs on the host
    body = re.fullmatch(r"(?:/\S+ ?)+\{\n(.*)\}\n", "".join(f"{line}\n" for line in lines_of(text)), re.DOTALL)
    assert body and body[1].count("postrotate") == body[1].count("endscript") == 1


def time_sources(text: str) -> None:
    assert all(re.fullmatch(r"server \S+ iburst", line) for line in lines_of(text))


def of_scenarios() -> list[tuple[str, Callable[[str], None]]]:
    """What molecule/<role>/templates.yml says of the role's files: the pattern of a path, and that of its lines."""
    patterns: dict[str, str] = {}
    for path in sorted(REPOSITORY.glob("molecule/*/templates.yml")):
        patterns |= yaml.safe_load(path.read_text())
    return [(path, lines(line)) for path, line in patterns.items()]


# A template of a new kind needs a reader here, or a pattern in its role's scenario (of_scenarios).
PARSERS: tuple[tuple[str, Callable[[str], Any]], ...] = (
    (r"/etc/systemd/.*\.(conf|service|timer)", unit),
    (r"/etc/.*\.nft", nftables),
    (r"/etc/logrotate\.d/.*", logrotate),
    (r"/etc/tmpfiles\.d/.*\.conf", lines(r"x /\S+|e /\S+ - - - m:[1-9]\d*d")),
    (r"/etc/chrony/sources\.d/.*\.sources", time_sources),
    (r"/etc/supervisor/conf\.d/.*\.conf", programs),
    (r"/etc/supervisor/programs/.*", shell),
    (r"/etc/sysctl\.d/.*\.conf", lines(r"(?P<key>[A-Za-z0-9_.*-]+) = \S.*")),
    (r"/etc/ssh/sshd_config\.d/.*\.conf", lines(r"(?P<key>[A-Z][A-Za-z0-9]+) \S.*")),
    (r"/etc/security/limits\.d/.*\.conf", lines(r"(?P<key>\S+ (?:hard|soft) [a-z]+) \d+")),
    (r"/etc/modprobe\.d/.*\.conf", lines(r"(?P<key>blacklist [a-z0-9_-]+|install [a-z0-9_-]+ /bin/false)")),
    (r"/etc/apt/apt\.conf\.d/.*", apt),
    (r"/etc/needrestart/.*\.conf", perl),
    (r"/etc/profile\.d/.*\.sh", shell),
    (r"/etc/postgresql/.*_hba\.conf", hba),
    (r"/etc/postgresql/.*/conf\.d/.*\.conf", lines(r"(?P<key>[a-z_.]+) = '(?:[^'\\]|''|\\\\)*'")),
    (r"/etc/rabbitmq/rabbitmq\.conf", lines(r"(?P<key>[a-z0-9_.]+) = \S+")),
    (r"/etc/rabbitmq/rabbitmq-env\.conf", shell),
    (r"/etc/rabbitmq/inetrc", erlang_terms),
    (r"/etc/rabbitmq/inter_node_tls\.config", erlang_term),
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
