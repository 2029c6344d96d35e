"""The way into a lab host: the key, the password of sudo, known_hosts, and waiting for boot and SSH.

`python -m lab.access` makes key and password, before the playbook that needs them.
"""

from __future__ import annotations

import fcntl
import secrets
import subprocess
import time

from lab.containers import Host
from lab.machine import REPOSITORY, STATE, Refusal, give_back, podman

KEY = STATE / "id_ed25519"
KNOWN_HOSTS = STATE / "known_hosts"
# Ansible reads it through ANSIBLE_BECOME_PASSWORD_FILE.
BECOME_PASSWORD = STATE / "become-password"
# Generous: a host boots in under a second, but five of them on a busy CI machine share two cores.
BOOT_DEADLINE_S = 90.0
ENTER = (REPOSITORY / "lab/guest/enter.sh").read_text(encoding="utf-8")


def make_key() -> None:
    STATE.mkdir(parents=True, exist_ok=True)
    if not KEY.exists():
        command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "grunnfjell-lab", "-f", str(KEY)]
        subprocess.run(command, check=True, stdin=subprocess.DEVNULL)
    if not BECOME_PASSWORD.exists():
        BECOME_PASSWORD.touch(mode=0o600)
        BECOME_PASSWORD.write_text(secrets.token_urlsafe(16) + "\n", encoding="utf-8")


def write_known_hosts(keys: dict[str, str]) -> None:
    """Put each address's key into the lab's known_hosts; an empty key removes the address."""
    STATE.mkdir(parents=True, exist_ok=True)
    with KNOWN_HOSTS.open("a+", encoding="utf-8") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.seek(0)
        lines = [line for line in file.read().splitlines() if line.split(" ")[0] not in keys]
        lines += [f"{ip} {key}" for ip, key in sorted(keys.items()) if key]
        file.seek(0)
        file.truncate()
        file.write("".join(f"{line}\n" for line in lines))


def boot(host: Host, deadline: float) -> tuple[str, list[str]]:
    """Wait until systemd has finished; returns the host's SSH key and the units that failed."""
    answer: dict[str, list[str]] = {}
    public_key = KEY.with_suffix(".pub").read_text(encoding="utf-8").strip()
    password = BECOME_PASSWORD.read_text(encoding="utf-8").strip() if host.sudo_password else ""
    while time.monotonic() < deadline:
        # systemd does not answer until its bus is up; then --wait blocks until the boot has ended.
        done = podman(
            "exec", "--interactive", host.container, "timeout", "60", "sh", "-c", ENTER,
            input=f"{host.account}\n{public_key}\n{password}\n", check=False,
        )  # fmt: skip
        answer = {}
        for line in done.stdout.splitlines():
            word, _, rest = line.partition(" ")
            answer.setdefault(word, []).append(rest)
        if answer.get("state", [""])[0] in ("running", "degraded") and "key" in answer:
            return answer["key"][0], answer.get("failed", [])
        time.sleep(0.1)  # between two looks; the deadline ends them
    raise Refusal(
        f"{host.name} did not finish booting within {BOOT_DEADLINE_S:.0f} s (systemd's state: {answer.get('state', 'unknown')}). "
        f"The end of its console, from `podman logs {host.container}`:\n{console(host)}"
    )


def console(host: Host) -> str:
    done = podman("logs", "--tail", "15", host.container, check=False)
    return (done.stdout + done.stderr).strip()


def log_in(host: Host, deadline: float) -> None:
    """Wait until SSH lets the lab in; a host with two networks may need a jump host, which only Ansible knows."""
    if host.inside:
        return
    command = ["ssh", "-i", str(KEY), "-o", f'UserKnownHostsFile="{KNOWN_HOSTS}"', "-o", "StrictHostKeyChecking=yes"]
    command += ["-o", "BatchMode=yes", "-o", "ConnectTimeout=5", "-o", "ControlPath=none"]
    command += ["-p", str(host.port), f"{host.account}@{host.ip}", "true"]
    while True:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, text=True, capture_output=True, check=False)
        if done.returncode == 0:
            return
        if time.monotonic() > deadline:
            raise Refusal(f"{host.name} runs but SSH to {host.account}@{host.ip} fails: {done.stderr.strip()}")
        time.sleep(0.1)  # between two looks; the deadline ends them


if __name__ == "__main__":
    make_key()
    give_back(STATE)
