#!/usr/bin/python3
"""Loads a host's firewall rules on trial, confirms them or restores the former ones, and keeps the addresses of names.

Module C(firewall) imports this file and installs it on the host, where timers run it, so it needs only Python.

  firewall.py confirm TOKEN   keep the rules of the trial with this token
    firewall.py back            restore the rules from before the trial
    firewall.py names           resolve the names, and update the sets of their addresses
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import secrets
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

FAMILY_TABLE = ("inet", "grunnfjell")
TABLE = " ".join(FAMILY_TABLE)
# A trial is in /run, so a reboot during a trial restores the former rules.
RUN = Path("/run/grunnfjell-firewall")
TRIAL = RUN / "trial"
ETC = Path("/etc/grunnfjell/firewall")
RULES, FALLBACK, NAMES = ETC / "rules.nft", ETC / "fallback.nft", ETC / "names.json"
STATE = Path("/var/lib/grunnfjell/firewall")
LOADED, SEEN, ADDRESSES = STATE / "loaded", STATE / "addresses.json", STATE / "addresses.nft"
PROGRAM = Path("/usr/local/lib/grunnfjell/firewall.py")
UNITS = Path("/etc/systemd/system")
SERVICE, TIMER = "grunnfjell-firewall.service", "grunnfjell-firewall-names.timer"
WANTED_BY = {SERVICE: "sysinit.target", TIMER: "timers.target"}
TRIAL_UNIT, OLDER_UNIT = "grunnfjell-firewall-trial", "grunnfjell-firewall-older"
# A DNS server may return other addresses every minute; all that it returned within a day stay open.
KEPT_SECONDS = 24 * 3600
# Without a resolver each name would take 10 s, which is too long for the rules to wait.
RESOLVE_SECONDS = 8.0
# Connections older than connection tracking are accepted by their next packet, which the services' heartbeats (10 s) and
# keepalives (30 s) send in time.
OLDER_SECONDS = 60
OLDER_RULE = f"add rule {TABLE} older tcp flags & (fin | syn | rst | ack) == ack counter accept\n"


class FirewallError(Exception):
    """A message for the operator."""


def command(*argv: str, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(argv, input=stdin, capture_output=True, text=True, check=False)


def nft(text: str, check: bool = False) -> None:
    """Loads the text in one transaction."""
    done = command("nft", *(["-c"] if check else []), "-f", "-", stdin=text)
    if done.returncode:
        raise FirewallError(f"nft refuses the rules: {done.stderr.strip()}")


def listing() -> str | None:
    """The kernel's table in nft's syntax; None without a table."""
    done = command("nft", "list", "table", *FAMILY_TABLE)
    return done.stdout if done.returncode == 0 else None


def replacing(text: str) -> str:
    """The text with statements that delete the present table first."""
    return f"table {TABLE}\ndelete table {TABLE}\n{text}"


def plain(value: Any) -> Any:
    """A listing without handles and counters, which always differ."""
    if isinstance(value, dict):
        return {key: plain(part) for key, part in value.items() if key not in ("handle", "packets", "bytes")}
    return [plain(part) for part in value] if isinstance(value, list) else value


def fingerprint_of(listed: str) -> str:
    """Hash of C(nft -j list table) without addresses of names and the rule for older connections."""
    kept = []
    for entry in json.loads(listed)["nftables"]:
        ((kind, value),) = entry.items()
        if kind == "metainfo" or (kind == "rule" and value.get("chain") == "older"):
            continue
        if kind == "set":
            value = {key: part for key, part in value.items() if key != "elem"}
        kept.append({kind: plain(value)})
    return hashlib.sha256(json.dumps(kept, sort_keys=True).encode()).hexdigest()


def fingerprint() -> str | None:
    """Hash of the kernel's table; None without one."""
    try:
        done = command("nft", "-j", "list", "table", *FAMILY_TABLE)
    except FileNotFoundError:
        return None
    return fingerprint_of(done.stdout) if done.returncode == 0 else None


def read(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return None


def write(path: Path, text: str, mode: int = 0o644) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.new")
    draft.touch(mode=0o600)
    with draft.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())  # rules that are empty after a power cut would leave the host open
    draft.chmod(mode)
    draft.replace(path)


@contextlib.contextmanager
def alone() -> Iterator[None]:
    """A lock, so a trial is either confirmed or rolled back."""
    RUN.mkdir(mode=0o700, exist_ok=True)
    with (RUN / "lock").open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


# Names.


def resolve(name: str) -> list[str]:
    return sorted({entry[4][0].partition("%")[0] for entry in socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)})


def look_up(
    names: list[str], resolver: Callable[[str], list[str]] = resolve, patience: float = RESOLVE_SECONDS
) -> dict[str, list[str]]:
    """Name to addresses, for names that are resolved in time."""
    addresses: dict[str, list[str]] = {}

    def ask(name: str) -> None:
        with contextlib.suppress(OSError, UnicodeError):
            addresses[name] = resolver(name)

    threads = [threading.Thread(target=ask, args=(name,), daemon=True) for name in names]
    for thread in threads:
        thread.start()
    deadline = time.monotonic() + patience
    for thread in threads:
        thread.join(max(0.0, deadline - time.monotonic()))
    return dict(addresses)


def remember(
    seen: dict[str, dict[str, float]], resolved: dict[str, list[str]], names: list[str], now: float
) -> dict[str, dict[str, float]]:
    """Name to its addresses and when each was last returned. A name that cannot be resolved keeps all its addresses."""
    known = {}
    for name in names:
        before, addresses = seen.get(name, {}), resolved.get(name, [])
        kept = {address: at for address, at in before.items() if not addresses or now - at < KEPT_SECONDS}
        known[name] = kept | dict.fromkeys(addresses, now)
    return known


def elements(sets: dict[str, list[str]], known: dict[str, dict[str, float]]) -> str:
    """nft statements that flush and fill the sets of names."""
    text = ""
    for name, members in sorted(sets.items()):
        addresses = sorted({address for member in members for address in known.get(member, {})})
        for family in ("4", "6"):
            own = [address for address in addresses if (":" in address) == (family == "6")]
            text += f"flush set {TABLE} {name}_{family}\n"
            if own:
                text += f"add element {TABLE} {name}_{family} {{ {', '.join(own)} }}\n"
    return text


def known_names(sets: dict[str, list[str]]) -> dict[str, dict[str, float]]:
    names = sorted({name for members in sets.values() for name in members})
    return remember(json.loads(read(SEEN) or "{}"), look_up(names), names, time.time()) if names else {}


def keep_names(known: dict[str, dict[str, float]], text: str) -> None:
    write(SEEN, json.dumps(known, indent=1, sort_keys=True) + "\n")
    write(ADDRESSES, text)


def names() -> None:
    with alone():
        if TRIAL.exists():
            return  # the next call follows the trial's result
        sets = json.loads(read(NAMES) or "{}")
        known = known_names(sets)
        text = elements(sets, known)
        nft(text)
        keep_names(known, text)
    if lost := sorted(name for name, addresses in known.items() if not addresses):
        print(f"no address was ever found for {', '.join(lost)}", file=sys.stderr)


# A trial.


def begin(
    rules: str, sets: dict[str, list[str]], files: dict[str, tuple[str, int]], program: str, seconds: int
) -> dict[str, Any]:
    """Loads the rules on trial, with a timer that restores the former ones unless they are confirmed."""
    with alone():
        if TRIAL.exists():
            go_back()  # left by another run; its timer would end this trial
        known = known_names(sets)
        filling = elements(sets, known)
        nft(f"{rules}\n{filling}", check=True)
        nft(files[str(FALLBACK)][0], check=True)
        former, token = listing(), secrets.token_hex(8)
        older = "" if former else OLDER_RULE
        staged = {"token": token, "first": former is None, "files": files, "known": known, "filling": filling}
        write(TRIAL / "firewall.py", program, 0o700)
        write(TRIAL / "former.nft", former or "", 0o600)
        write(TRIAL / "trial.json", json.dumps(staged), 0o600)
        command("systemctl", "stop", f"{TRIAL_UNIT}.timer")
        set_up = command(
            "systemd-run", "--quiet", "--collect", f"--unit={TRIAL_UNIT}", f"--on-active={seconds}",
            "--timer-property=AccuracySec=100ms", "/usr/bin/python3", str(TRIAL / "firewall.py"), "back",
        )  # fmt: skip
        if set_up.returncode:
            shutil.rmtree(TRIAL)
            raise FirewallError(
                f"No timer could be set to restore the former rules, so nothing was loaded: {set_up.stderr.strip()}"
            )
        try:
            nft(f"{rules}\n{filling}{older}")
        except FirewallError:
            end_trial()
            raise
    return {"token": token, "unresolved": sorted(name for name, addresses in known.items() if not addresses)}


def end_trial() -> None:
    shutil.rmtree(TRIAL)
    command("systemctl", "stop", f"{TRIAL_UNIT}.timer")


def go_back() -> None:
    former = read(TRIAL / "former.nft")
    try:
        if former is not None:  # else its run was killed before it loaded anything
            nft(replacing(former))
    except FirewallError:
        # The next run loads the declared rules. It must be able to log in, so without a fallback the host is left open.
        nft(read(FALLBACK) or replacing(""))
        raise
    finally:
        shutil.rmtree(TRIAL)


def back() -> None:
    with alone():
        if TRIAL.exists():
            go_back()
            print("the rules on trial were not confirmed: the former ones are in force again", file=sys.stderr)


def confirm(token: str) -> None:
    """Keeps the rules on trial, also after a reboot; only while the timer is still waiting."""
    with alone():
        trial = json.loads(read(TRIAL / "trial.json") or "{}")
        if trial.get("token") != token:
            raise FirewallError("the trial is over: the former rules are in force again")
        for path, (content, mode) in trial["files"].items():
            write(Path(path), content, mode)
        keep_names(trial["known"], trial["filling"])
        settle(bool(json.loads(read(NAMES) or "{}")))
        if trial["first"]:
            nft(OLDER_RULE)
            command(
                "systemd-run", "--quiet", "--collect", f"--unit={OLDER_UNIT}", f"--on-active={OLDER_SECONDS}",
                "--timer-property=AccuracySec=1s", "/usr/sbin/nft", "flush", "chain", *FAMILY_TABLE, "older",
            )  # fmt: skip
        write(LOADED, f"{fingerprint()}\n")
        # The timer stays active until here: it waits for the lock, then finds no trial. After a failure it restores the former
        # rules.
        end_trial()


def settle(timed: bool) -> None:
    """Reloads and enables the units, in few calls: each takes systemd a tenth of a second."""
    must(command("systemctl", "daemon-reload"))
    must(command("systemctl", "enable", "--now", SERVICE, *([TIMER] if timed else [])))
    if not timed and enabled(TIMER):
        must(command("systemctl", "disable", "--now", TIMER))


def must(done: subprocess.CompletedProcess[str]) -> None:
    if done.returncode:
        raise FirewallError(f"{' '.join(done.args)} failed: {done.stderr.strip()}")


def enabled(unit: str) -> bool:
    return (UNITS / f"{WANTED_BY[unit]}.wants" / unit).is_symlink()


# What is on the host.


def differing(files: dict[str, tuple[str, int]], timed: bool) -> list[str]:
    """Files, units and tables that differ from the declared ones."""
    names = [path for path, (content, _) in files.items() if read(Path(path)) != content]
    names += [path for path, (_, mode) in files.items() if path not in names and Path(path).stat().st_mode & 0o7777 != mode]
    names += [unit for unit, wanted in ((SERVICE, True), (TIMER, timed)) if enabled(unit) != wanted]
    if (now := fingerprint()) is None or f"{now}\n" != read(LOADED):
        names.append(f"table {TABLE}")
    return names


def leftovers() -> list[Path]:
    paths = [UNITS / SERVICE, UNITS / TIMER, UNITS / TIMER.replace(".timer", ".service"), ETC, STATE, PROGRAM, RUN]
    return [path for path in paths if path.exists()]


def present() -> bool:
    return bool([path for path in leftovers() if path != RUN]) or fingerprint() is not None


def remove() -> None:
    """Removes the kit's firewall completely, which locks nobody out."""
    with alone():
        for unit in (f"{TRIAL_UNIT}.timer", f"{OLDER_UNIT}.timer"):
            command("systemctl", "stop", unit)
        units = [unit for unit in WANTED_BY if (UNITS / unit).exists()]
        if units:
            must(command("systemctl", "disable", "--now", *units))
        if shutil.which("nft"):
            nft(replacing(""))
        for path in leftovers():
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        must(command("systemctl", "daemon-reload"))


def main(argv: list[str]) -> int:
    try:
        if argv[:1] == ["confirm"]:
            confirm(argv[1])
        elif argv == ["back"]:
            back()
        elif argv == ["names"]:
            names()
        else:
            print(__doc__, file=sys.stderr)
            return 2
    except FirewallError as error:
        print(error, file=sys.stderr)
        return 1
    sys.stderr.flush()
    os._exit(0)  # without waiting for look-ups of a dead resolver


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
