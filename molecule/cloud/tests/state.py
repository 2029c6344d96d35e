"""What is on a host and what its services run with. Run there as root by test_cloud.py; prints JSON: part → name → value."""

import hashlib
import json
import os
import re
import shutil
import stat
import subprocess
from pathlib import Path

# Where the kit and Debian's packages keep what a run could change.
TREES = ("/etc", "/usr/local", "/opt", "/root", "/home", "/srv", "/var/spool/cron", "/var/lib/newsroom", "/var/lib/grunnfjell")
# Written by programs by themselves, or by the world's changes: compiled modules, what names resolved to at the last run.
NOISE = re.compile(
    r"/firewall/addresses\.json$|\.pyc$|__pycache__|/\.ansible|/\.cache|/\.bash_history|/etc/\.pwd\.lock|-$|/etc/resolv\.conf|/etc/mtab"
)
UNITS = ("ActiveState", "UnitFileState", "MainPID", "NRestarts", "ActiveEnterTimestampMonotonic")


def printed(*command: str) -> str:
    return subprocess.run(command, text=True, capture_output=True, check=False, stdin=subprocess.DEVNULL, timeout=60).stdout


def described(path: Path) -> list[object]:
    found = path.lstat()
    if stat.S_ISLNK(found.st_mode):
        content = os.readlink(path)
    elif stat.S_ISREG(found.st_mode):
        content = hashlib.sha256(path.read_bytes()).hexdigest()
    else:
        content = stat.filemode(found.st_mode)[0]
    return [oct(found.st_mode), found.st_uid, found.st_gid, content]


def files() -> dict[str, object]:
    paths = (path for tree in TREES if Path(tree).exists() for path in Path(tree).rglob("*"))
    return {str(path): described(path) for path in paths if not NOISE.search(str(path))}


def units() -> dict[str, object]:
    listed = printed("systemctl", "list-units", "--all", "--plain", "--no-legend", "--type=service,socket,timer").split("\n")
    names = [line.split()[0] for line in listed if line and "@" not in line.split()[0]]
    names += [line.split()[0] for line in listed if line.startswith("postgresql@")]
    show = printed("systemctl", "show", "--property=Id," + ",".join(UNITS), *names)
    found = {}
    for block in show.strip().split("\n\n"):
        values = dict(line.partition("=")[::2] for line in block.splitlines())
        found[values.pop("Id")] = values
    return found


def lines(text: str) -> dict[str, object]:
    return {str(number): line for number, line in enumerate(text.splitlines())}


def firewall() -> dict[str, object]:
    rules = re.sub(r"elements = \{[^}]*\}", "", printed("nft", "list", "ruleset"))
    return lines(re.sub(r"counter packets \d+ bytes \d+", "counter", rules))


def kernel() -> dict[str, object]:
    wanted = re.compile(
        r"^net\.(core\.somaxconn|ipv[46]\.conf\.\w+\.(accept_redirects|send_redirects|rp_filter|log_martians)) = "
    )
    return {line.split(" = ")[0]: line.split(" = ")[1] for line in printed("sysctl", "-a").splitlines() if wanted.match(line)}


def broker() -> dict[str, object]:
    found = {}
    for what in ("users", "vhosts", "policies", "parameters", "permissions"):
        across = ["--vhost", "newsroom"] if what in ("policies", "parameters", "permissions") else []
        found[what] = sorted(printed("rabbitmqctl", "-q", f"list_{what}", *across).splitlines())
    found["queues"] = sorted(
        printed("rabbitmqctl", "-q", "list_queues", "--vhost", "newsroom", "name", "type", "durable").splitlines()
    )
    for key in ("vm_memory_high_watermark", "consumer_timeout", "max_message_size"):
        found[key] = printed("rabbitmqctl", "-q", "eval", f"application:get_env(rabbit, {key}).")
    return found


def database() -> dict[str, object]:
    psql = ["runuser", "-u", "postgres", "--", "psql", "-XAtq"]
    in_use = "source NOT IN ('default', 'session', 'client', 'override')"
    settings = f"SELECT name, setting FROM pg_catalog.pg_settings WHERE {in_use} ORDER BY 1"
    roles = "SELECT rolname, rolsuper, rolcreaterole, rolcreatedb, rolcanlogin, rolvaliduntil FROM pg_catalog.pg_roles ORDER BY 1"
    schema = printed("runuser", "-u", "postgres", "--", "pg_dump", "-s", "newsroom")
    return {
        "settings": printed(*psql, "-c", settings).splitlines(),
        "roles": printed(*psql, "-c", roles).splitlines(),
        # Newer versions put a word of chance around each dump.
        "schema": [line for line in schema.splitlines() if not line.startswith(("\\restrict", "\\unrestrict"))],
    }


def pooler() -> dict[str, object]:
    console = ["runuser", "-u", "postgres", "--", "psql", "-XAtq", "-p", "6432", "-U", "pgbouncer", "pgbouncer", "-c"]
    databases = [line.split("|")[:8] for line in printed(*console, "SHOW DATABASES").splitlines()]
    return {"config": printed(*console, "SHOW CONFIG").splitlines(), "databases": databases}


def programs() -> dict[str, object]:
    return {
        line.split()[0]: re.sub(r"uptime.*", "", line) for line in printed("supervisorctl", "status").splitlines() if line.strip()
    }


def programs_in_use() -> dict[str, object]:
    """What supervisord runs its programs with, by their processes."""
    found = {}
    for line in printed("supervisorctl", "status").splitlines():
        if match := re.match(r"(\S+)\s+RUNNING\s+pid (\d+)", line):
            arguments = Path(f"/proc/{match[2]}/cmdline").read_bytes().replace(b"\0", b" ").decode()
            found[match[1]] = re.sub(r"/releases/\w+/", "/releases/ID/", arguments)
    return found


def journal() -> dict[str, object]:
    """The limit that the running journald announced when it last read its settings."""
    said = re.findall(
        r"System Journal .*max (\S+),", printed("journalctl", "--no-pager", "-q", "-o", "cat", "-u", "systemd-journald")
    )
    return {"max": said[-1] if said else ""}


def main() -> None:
    parts = {"files": files(), "units": units(), "firewall": firewall(), "kernel": kernel(), "journal": journal()}
    of_services = {
        "rabbitmqctl": {"broker": broker},
        "pg_ctlcluster": {"database": database},
        "pgbouncer": {"pooler": pooler},
        "supervisorctl": {"programs": programs, "commands": programs_in_use},
    }
    for program, asked in of_services.items():
        if shutil.which(program):
            parts |= {name: ask() for name, ask in asked.items()}
    print(json.dumps(parts))


if __name__ == "__main__":
    main()
