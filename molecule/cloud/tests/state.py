"""The files of a host and the settings that its services run with. Runs there as root; prints JSON: part → name → value."""

import hashlib
import json
import os
import re
import shutil
import stat
import subprocess
from pathlib import Path

# Where the kit and Debian's packages keep files that a run could change.
TREES = ("/etc", "/usr/local", "/opt", "/root", "/home", "/srv", "/var/spool/cron", "/var/lib/newsroom", "/var/lib/grunnfjell")
# Changes without a run: compiled modules, resolved addresses, histories, the empty sources.list that unattended-upgrades makes.
NOISE = re.compile(
    r"/firewall/addresses\.json$|\.pyc$|__pycache__|/\.ansible|/\.cache|/\.bash_history|/etc/\.pwd\.lock|-$|/etc/resolv\.conf|/etc/mtab"
    r"|/etc/apt/sources\.list$"
)
UNITS = ("ActiveState", "UnitFileState", "MainPID", "NRestarts", "ActiveEnterTimestampMonotonic")


def output(*command: str) -> str:
    return subprocess.run(command, text=True, capture_output=True, check=False, stdin=subprocess.DEVNULL, timeout=60).stdout


def described(path: Path) -> list[object]:
    status = path.lstat()
    if stat.S_ISLNK(status.st_mode):
        content = os.readlink(path)
    elif stat.S_ISREG(status.st_mode):
        content = hashlib.sha256(path.read_bytes()).hexdigest()
    else:
        content = stat.filemode(status.st_mode)[0]
    return [oct(status.st_mode), status.st_uid, status.st_gid, content]


def files() -> dict[str, object]:
    paths = (path for tree in TREES if Path(tree).exists() for path in Path(tree).rglob("*"))
    return {str(path): described(path) for path in paths if not NOISE.search(str(path))}


def units() -> dict[str, object]:
    listed = output("systemctl", "list-units", "--all", "--plain", "--no-legend", "--type=service,socket,timer").split("\n")
    names = [line.split()[0] for line in listed if line and "@" not in line.split()[0]]
    names += [line.split()[0] for line in listed if line.startswith("postgresql@")]
    show = output("systemctl", "show", "--property=Id," + ",".join(UNITS), *names)
    blocks = [dict(line.partition("=")[::2] for line in block.splitlines()) for block in show.strip().split("\n\n")]
    return {values.pop("Id"): values for values in blocks}


def lines(text: str) -> dict[str, object]:
    return {str(number): line for number, line in enumerate(text.splitlines())}


def firewall() -> dict[str, object]:
    rules = re.sub(r"elements = \{[^}]*\}", "", output("nft", "list", "ruleset"))
    return lines(re.sub(r"counter packets \d+ bytes \d+", "counter", rules))


def kernel() -> dict[str, object]:
    pattern = re.compile(
        r"^net\.(core\.somaxconn|ipv[46]\.conf\.\w+\.(accept_redirects|send_redirects|rp_filter|log_martians)) = "
    )
    return {line.split(" = ")[0]: line.split(" = ")[1] for line in output("sysctl", "-a").splitlines() if pattern.match(line)}


def broker() -> dict[str, object]:
    state = {}
    for kind in ("users", "vhosts", "policies", "parameters", "permissions"):
        vhost = ["--vhost", "newsroom"] if kind in ("policies", "parameters", "permissions") else []
        state[kind] = sorted(output("rabbitmqctl", "-q", f"list_{kind}", *vhost).splitlines())
    state["queues"] = sorted(
        output("rabbitmqctl", "-q", "list_queues", "--vhost", "newsroom", "name", "type", "durable").splitlines()
    )
    for key in ("vm_memory_high_watermark", "consumer_timeout", "max_message_size"):
        state[key] = output("rabbitmqctl", "-q", "eval", f"application:get_env(rabbit, {key}).")
    return state


def database() -> dict[str, object]:
    psql = ["runuser", "-u", "postgres", "--", "psql", "-XAtq"]
    in_use = "source NOT IN ('default', 'session', 'client', 'override')"
    settings = f"SELECT name, setting FROM pg_catalog.pg_settings WHERE {in_use} ORDER BY 1"
    roles = "SELECT rolname, rolsuper, rolcreaterole, rolcreatedb, rolcanlogin, rolvaliduntil FROM pg_catalog.pg_roles ORDER BY 1"
    schema = output("runuser", "-u", "postgres", "--", "pg_dump", "-s", "newsroom")
    return {
        "settings": output(*psql, "-c", settings).splitlines(),
        "roles": output(*psql, "-c", roles).splitlines(),
        # Newer versions put a random word around each dump.
        "schema": [line for line in schema.splitlines() if not line.startswith(("\\restrict", "\\unrestrict"))],
    }


def pooler() -> dict[str, object]:
    console = ["runuser", "-u", "postgres", "--", "psql", "-XAtq", "-p", "6432", "-U", "pgbouncer", "pgbouncer", "-c"]
    databases = [line.split("|")[:8] for line in output(*console, "SHOW DATABASES").splitlines()]
    return {"config": output(*console, "SHOW CONFIG").splitlines(), "databases": databases}


def programs() -> dict[str, object]:
    return {
        line.split()[0]: re.sub(r"uptime.*", "", line) for line in output("supervisorctl", "status").splitlines() if line.strip()
    }


def programs_in_use() -> dict[str, object]:
    """The command lines of supervisord's programs."""
    commands = {}
    for line in output("supervisorctl", "status").splitlines():
        if match := re.match(r"(\S+)\s+RUNNING\s+pid (\d+)", line):
            arguments = Path(f"/proc/{match[2]}/cmdline").read_bytes().replace(b"\0", b" ").decode()
            commands[match[1]] = re.sub(r"/releases/\w+/", "/releases/ID/", arguments)
    return commands


def journal() -> dict[str, object]:
    """The limit that journald logged when it last read its settings."""
    limits = re.findall(
        r"System Journal .*max (\S+),", output("journalctl", "--no-pager", "-q", "-o", "cat", "-u", "systemd-journald")
    )
    return {"max": limits[-1] if limits else ""}


def main() -> None:
    parts = {"files": files(), "units": units(), "firewall": firewall(), "kernel": kernel(), "journal": journal()}
    of_services = {
        "rabbitmqctl": {"broker": broker},
        "pg_ctlcluster": {"database": database},
        "pgbouncer": {"pooler": pooler},
        "supervisorctl": {"programs": programs, "commands": programs_in_use},
    }
    for program, readers in of_services.items():
        if shutil.which(program):
            parts |= {name: read() for name, read in readers.items()}
    print(json.dumps(parts))


if __name__ == "__main__":
    main()
