#!/usr/bin/python3
"""What acts on a host's firewall: loads rules on trial, confirms them or goes back, keeps the addresses of names.

One text in two places: module C(firewall) imports it, and it is left on the host, where timers run it. Python alone.

  firewall.py confirm TOKEN   the trial of this token becomes what the host has
  firewall.py back            the rules before the trial are in force again
  firewall.py names           look the names up, and let their addresses in
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
# Where the rules are put together with what goes away with a reboot: a trial that a reboot cuts off was never confirmed.
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
# A name's server tells some of its addresses now and others in a minute; what it told within a day stays open.
KEPT_SECONDS = 24 * 3600
# Without a resolver each name would wait some 10 s; the rules do not wait for it.
RESOLVE_SECONDS = 8.0
# Connections that were there before the kernel followed any: taken over by their next packet from either side, for which the
# heartbeats of the kit's services (10 s) and its keepalives (30 s) see to it in time.
OLDER_SECONDS = 60
OLDER_RULE = f"add rule {TABLE} older tcp flags & (fin | syn | rst | ack) == ack counter accept\n"


class FirewallError(Exception):
    """A sentence for the person who runs the kit."""


def command(*argv: str, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(argv, input=stdin, capture_output=True, text=True, check=False)


def nft(text: str, check: bool = False) -> None:
    """One transaction: all of it, or nothing."""
    done = command("nft", *(["-c"] if check else []), "-f", "-", stdin=text)
    if done.returncode:
        raise FirewallError(f"nft refuses the rules: {done.stderr.strip()}")


def listing() -> str | None:
    """The table as the kernel has it, in words that load it again; None without a table."""
    done = command("nft", "list", "table", *FAMILY_TABLE)
    return done.stdout if done.returncode == 0 else None


def instead(text: str) -> str:
    """The table's text in place of whatever the kernel has."""
    return f"table {TABLE}\ndelete table {TABLE}\n{text}"


def plain(value: Any) -> Any:
    """A listing without what is different each time: handles, counters."""
    if isinstance(value, dict):
        return {key: plain(each) for key, each in value.items() if key not in ("handle", "packets", "bytes")}
    return [plain(each) for each in value] if isinstance(value, list) else value


def fingerprint_of(listed: str) -> str:
    """Identity of what C(nft -j list table) says, but for addresses of names and connections that are taken over."""
    kept = []
    for entry in json.loads(listed)["nftables"]:
        ((kind, value),) = entry.items()
        if kind == "metainfo" or (kind == "rule" and value.get("chain") == "older"):
            continue
        if kind == "set":
            value = {key: each for key, each in value.items() if key != "elem"}
        kept.append({kind: plain(value)})
    return hashlib.sha256(json.dumps(kept, sort_keys=True).encode()).hexdigest()


def fingerprint() -> str | None:
    """Identity of the table that the kernel has; None without one."""
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
    """Confirming and going back exclude each other, so that no trial ends in both."""
    RUN.mkdir(mode=0o700, exist_ok=True)
    with (RUN / "lock").open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


# Names.


def resolve(name: str) -> list[str]:
    found = {entry[4][0].partition("%")[0] for entry in socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)}
    return sorted(found)


def look_up(
    names: list[str], resolver: Callable[[str], list[str]] = resolve, patience: float = RESOLVE_SECONDS
) -> dict[str, list[str]]:
    """Name to addresses, for those that are found in time."""
    found: dict[str, list[str]] = {}

    def ask(name: str) -> None:
        with contextlib.suppress(OSError, UnicodeError):
            found[name] = resolver(name)

    threads = [threading.Thread(target=ask, args=(name,), daemon=True) for name in names]
    for thread in threads:
        thread.start()
    deadline = time.monotonic() + patience
    for thread in threads:
        thread.join(max(0.0, deadline - time.monotonic()))
    return dict(found)


def remember(
    seen: dict[str, dict[str, float]], found: dict[str, list[str]], names: list[str], now: float
) -> dict[str, dict[str, float]]:
    """What is known of the names: address to when it was told last. A name that nobody finds keeps all that it had."""
    known = {}
    for name in names:
        before, told = seen.get(name, {}), found.get(name, [])
        kept = {address: at for address, at in before.items() if not told or now - at < KEPT_SECONDS}
        known[name] = kept | dict.fromkeys(told, now)
    return known


def elements(sets: dict[str, list[str]], known: dict[str, dict[str, float]]) -> str:
    """What fills the sets of names, for nft; flushed first, so that what is gone goes."""
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
            return  # the next time finds what the trial came to
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
    """The rules on trial, with a timer that goes back unless somebody confirms."""
    with alone():
        if TRIAL.exists():
            go_back()  # one that another run left, and whose timer would end this one
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
            raise FirewallError(f"No timer would bring the former rules back, so nothing was loaded: {set_up.stderr.strip()}")
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
            nft(instead(former))
    except FirewallError:
        # The next run loads what is declared. A host that nobody can enter has no next run: without a fallback it stands open.
        nft(read(FALLBACK) or instead(""))
        raise
    finally:
        shutil.rmtree(TRIAL)


def back() -> None:
    with alone():
        if TRIAL.exists():
            go_back()
            print("nobody confirmed the rules on trial: the former ones are in force again", file=sys.stderr)


def confirm(token: str) -> None:
    """What is on trial becomes what the host has, also after a reboot; only while the timer still waits."""
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
        # Until here the timer waits: it finds the lock taken, and then no trial; had anything failed, it would go back.
        end_trial()


def settle(timed: bool) -> None:
    """The units as they should be, in few calls: systemd takes a tenth of a second for each."""
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
    """What of it is not as it should be."""
    found = [path for path, (content, _) in files.items() if read(Path(path)) != content]
    found += [path for path, (_, mode) in files.items() if path not in found and Path(path).stat().st_mode & 0o7777 != mode]
    found += [unit for unit, wanted in ((SERVICE, True), (TIMER, timed)) if enabled(unit) != wanted]
    if (now := fingerprint()) is None or f"{now}\n" != read(LOADED):
        found.append(f"table {TABLE}")
    return found


def leftovers() -> list[Path]:
    paths = [UNITS / SERVICE, UNITS / TIMER, UNITS / TIMER.replace(".timer", ".service"), ETC, STATE, PROGRAM, RUN]
    return [path for path in paths if path.exists()]


def present() -> bool:
    return bool([path for path in leftovers() if path != RUN]) or fingerprint() is not None


def remove() -> None:
    """No firewall of the kit is left; nobody is locked out by that."""
    with alone():
        for unit in (f"{TRIAL_UNIT}.timer", f"{OLDER_UNIT}.timer"):
            command("systemctl", "stop", unit)
        units = [unit for unit in WANTED_BY if (UNITS / unit).exists()]
        if units:
            must(command("systemctl", "disable", "--now", *units))
        if shutil.which("nft"):
            nft(instead(""))
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
    os._exit(0)  # a look-up that still waits for a dead resolver does not hold the end up


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
