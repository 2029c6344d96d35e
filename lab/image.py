"""Build the image of a blank Debian host from Debian's archive, as this machine is configured to reach it.

No name of a mirror, proxy or index is written here or in any other file of the kit: they are read from the machine's own
apt and pip settings and carried into the image, and so are the certificate authorities that this machine trusts.
"""

from __future__ import annotations

import argparse
import configparser
import hashlib
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import threading
import time
from collections import deque
from pathlib import Path

from lab import cloud
from lab.machine import REPOSITORY, STATE, Refusal, fail, give_back, install_packages, os_release, podman

CODENAMES = {"12": "bookworm", "13": "trixie"}
NAME = "localhost/grunnfjell-debian"
LABEL = "grunnfjell.definition"

# A blank server: what Debian's installer leaves behind with "SSH server" alone ticked, less what a container has no use for.
PACKAGES = (
    "ca-certificates",
    "dbus",
    "iproute2",
    "kmod",
    "nftables",
    "openssh-server",
    "procps",
    "python3",
    "python3-apt",
    "sudo",
    "systemd",
    "systemd-sysv",
)

# What finds disks, consoles and hypervisors at boot, of which a container has none. systemd runs each of them again at every
# daemon-reload, and so at every package with a service: a tenth of what a converge from blank cost this machine.
GENERATORS = (
    "systemd-debug-generator",
    "systemd-fstab-generator",
    "systemd-getty-generator",
    "systemd-gpt-auto-generator",
    "systemd-hibernate-resume-generator",
    "systemd-rc-local-generator",
    "systemd-run-generator",
    "systemd-ssh-generator",
    "systemd-system-update-generator",
    "systemd-tpm2-generator",
)

# Two hosts with one key would be one host to SSH: each makes its own at its first boot. One kind is enough, and quick.
HOSTKEY_UNIT = """\
[Unit]
Description=Make this host's SSH key at its first boot
Before=ssh.service
ConditionPathExists=!/etc/ssh/ssh_host_ed25519_key

[Service]
Type=oneshot
ExecStart=/usr/bin/ssh-keygen -q -t ed25519 -N "" -f /etc/ssh/ssh_host_ed25519_key

[Install]
WantedBy=multi-user.target
"""

PEM = re.compile(r"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----\n?", re.DOTALL)


def output(*command: str) -> str:
    return subprocess.run(command, text=True, capture_output=True, check=True).stdout


def archives(targets: str, here: str, wanted: str) -> list[str]:
    """The machine's own lines for Debian's archive, turned to another release.

    `targets` is what `apt-get indextargets` says: it has read both kinds of source files already.

    >>> archives("http://mirror/debian/|bookworm-updates|main|Debian", "bookworm", "trixie")
    ['deb http://mirror/debian/ trixie-updates main']
    """
    components: dict[tuple[str, str], list[str]] = {}
    for line in targets.splitlines():
        uri, suite, component, origin = line.split("|")
        pocket = suite.removeprefix(here)
        if origin in ("Debian", "$(ORIGIN)") and suite != pocket and pocket in ("", "-updates", "-security"):
            names = components.setdefault((uri, wanted + pocket), [])
            if component == "main" and component not in names:
                names.append(component)
    return [f"deb {uri} {suite} {' '.join(names)}" for (uri, suite), names in components.items() if names]


def apt_options(dump: str) -> list[str]:
    """What a host needs of the machine's apt settings to reach the same archive: proxies, TLS, checks that are off."""
    wanted = re.compile(r"^(Acquire::(https?|ftp)::\S*|Acquire::Check-(Valid-Until|Date)) \"[^\"]+\";$")
    return [line for line in dump.splitlines() if wanted.match(line)]


def own_authorities(bundle: str, debian: str) -> list[str]:
    """The certificates that this machine trusts and Debian's own package does not bring."""
    known = {certificate.strip() for certificate in PEM.findall(debian)}
    return sorted({certificate.strip() + "\n" for certificate in PEM.findall(bundle) if certificate.strip() not in known})


def pip_settings(files: list[str], environment: dict[str, str]) -> dict[str, str]:
    """How this machine reaches its package index, from pip's own files (weakest first) and variables.

    Paths on this machine's disk mean nothing inside a host and stay here.
    """
    settings: dict[str, str] = {}
    for key in ("index-url", "extra-index-url", "trusted-host", "proxy", "timeout"):
        values = []
        for text in files:
            parser = configparser.RawConfigParser()
            parser.read_string(text)
            values += [parser.get(section, key, fallback="") for section in ("global", "install")]
        values.append(environment.get("PIP_" + key.upper().replace("-", "_"), ""))
        kept = [" ".join(w for w in value.split() if not w.startswith(("file:", "/"))) for value in values]
        if any(kept):
            settings[key] = [value for value in kept if value][-1]
    return settings


def read_pip_settings() -> dict[str, str]:
    home = Path(f"~{os.environ.get('SUDO_USER', '')}").expanduser()
    paths = [Path("/etc/xdg/pip/pip.conf"), Path("/etc/pip.conf"), home / ".pip/pip.conf", home / ".config/pip/pip.conf"]
    if named := os.environ.get("PIP_CONFIG_FILE"):
        paths.append(Path(named))
    return pip_settings([p.read_text(encoding="utf-8") for p in paths if p.is_file()], dict(os.environ))


def read_authorities() -> list[str]:
    bundle = Path(os.environ.get("SSL_CERT_FILE", "/etc/ssl/certs/ca-certificates.crt"))
    debian = "".join(path.read_text() for path in sorted(Path("/usr/share/ca-certificates").rglob("*.crt")))
    return own_authorities(bundle.read_text(encoding="utf-8"), debian) if bundle.exists() else []


def overlay_files() -> dict[str, str]:
    """The files that a blank host has from us, by their place in it."""
    files = {
        "etc/systemd/system/ssh-hostkey.service": HOSTKEY_UNIT,
        # Empty: no role may rest on a locale that a host happens to have, and PAM complains where the file is missing.
        "etc/default/locale": "",
    }
    authorities = read_authorities()
    for certificate in authorities:
        name = hashlib.sha256(certificate.encode()).hexdigest()[:12]
        files[f"usr/local/share/ca-certificates/lab-{name}.crt"] = certificate
    pip = read_pip_settings()
    if authorities:
        # pip brings authorities of its own; it must be told to use the system's.
        pip["cert"] = "/etc/ssl/certs/ca-certificates.crt"
    if pip:
        files["etc/pip.conf"] = "[global]\n" + "".join(f"{key} = {value}\n" for key, value in pip.items())
    for path in sorted(Path("/etc/apt/auth.conf.d").glob("*.conf")):
        files[f"etc/apt/auth.conf.d/{path.name}"] = path.read_text(encoding="utf-8")
    return files


def definition(release: str, own_kernel: tuple[str, ...] = (), flavour: str = "") -> tuple[list[str], dict[str, str]]:
    """The mmdebstrap command that makes the image, and the files that go into it first.

    `own_kernel` are the packages of a machine with a kernel of its own; without them the image is a container's.
    `flavour` is empty or `cloud` (lab/cloud.py).
    """
    here = os_release()
    if here.get("ID") != "debian" or here.get("VERSION_ID") not in CODENAMES:
        raise Refusal(
            f"the lab runs on Debian {' or '.join(CODENAMES)}, and this is {here.get('PRETTY_NAME', 'something else')}. "
            "The kit itself needs no lab: copy inventories/example and name hosts of your own."
        )
    fields = "$(REPO_URI)|$(RELEASE)|$(COMPONENT)|$(ORIGIN)"
    targets = output("apt-get", "indextargets", "--no-release-info", "--format", fields, "Created-By: Packages")
    sources = archives(targets, here["VERSION_CODENAME"], CODENAMES[release])
    if not sources:
        raise Refusal(
            f"this machine's apt names no archive of Debian {here['VERSION_CODENAME']} with the component main: "
            "put one into /etc/apt/sources.list.d and run apt-get update."
        )
    more = cloud.PACKAGES if flavour else ()
    command = ["mmdebstrap", "--variant=minbase", f"--include={','.join((*PACKAGES, *own_kernel, *more))}"]
    command += [f"--aptopt={option}" for option in apt_options(output("apt-config", "dump"))]
    command += [
        # A lab host is made anew rather than repaired after a power cut, so dpkg need not wait for the disk at each file.
        "--dpkgopt=force-unsafe-io",
        # Nobody reads descriptions and documents there, and five hosts unpack them on two cores.
        '--aptopt=Acquire::Languages "none"',
        "--dpkgopt=path-exclude=/usr/share/doc/*",
        "--dpkgopt=path-exclude=/usr/share/locale/*",
        "--setup-hook=sync-in OVERLAY /",
        '--customize-hook=chroot "$1" update-ca-certificates',
        '--customize-hook=chroot "$1" systemctl enable ssh.service ssh-hostkey.service',
        f'--customize-hook=cd "$1"/etc/systemd && mkdir -p system-generators && for name in '
        f'{"" if own_kernel else " ".join(GENERATORS)}; do ln -s /dev/null "system-generators/$name"; done',
        # What makes a host itself comes at its first boot.
        '--customize-hook=rm -f "$1"/etc/ssh/ssh_host_* "$1"/etc/hostname "$1"/etc/resolv.conf',
        # The list of packages was never fetched, and the date says so: Ansible's apt takes a young directory for a fresh list.
        # mmdebstrap's own cleaning comes after the hooks and would touch the directory again.
        "--skip=cleanup/apt",
        '--customize-hook=chroot "$1" apt-get clean',
        '--customize-hook=find "$1"/var/lib/apt/lists -mindepth 1 -delete && touch -d @0 "$1"/var/lib/apt/lists',
        '--customize-hook=install -d -m 0700 "$1"/root/.ssh',
        *(cloud.HOOKS if flavour else ()),
        CODENAMES[release],
        "-",
        *sources,
    ]
    return command, overlay_files() | (cloud.files(sources) if flavour else {})


def digest(command: list[str], files: dict[str, str]) -> str:
    return hashlib.sha256(json.dumps([command, files]).encode()).hexdigest()[:16]


class Progress:
    """One line that moves on a terminal, a line every few seconds elsewhere."""

    def __init__(self, title: str) -> None:
        self.title, self.step, self.started, self.done = title, "", time.monotonic(), threading.Event()
        self.thread = threading.Thread(target=self._tick, daemon=True)

    def __enter__(self) -> Progress:
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.done.set()
        self.thread.join()
        if sys.stdout.isatty():
            print("\r\033[K", end="", flush=True)

    @property
    def seconds(self) -> float:
        return time.monotonic() - self.started

    def _tick(self) -> None:
        terminal = sys.stdout.isatty()
        while not self.done.wait(0.5 if terminal else 5):
            line = f"{self.title}: {self.seconds:3.0f} s  {self.step}"
            print(f"\r\033[K{line[:110]}" if terminal else line, end="" if terminal else "\n", flush=True)


def write_overlay(overlay: Path, files: dict[str, str]) -> Path:
    shutil.rmtree(overlay, ignore_errors=True)
    for name, text in files.items():
        path = overlay / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return overlay


def build(tag: str, force: bool = False) -> None:
    """tag: the release, with the flavour behind it: 13 or 13-cloud."""
    release, _, flavour = tag.partition("-")
    if flavour not in ("", "cloud"):
        raise Refusal(f"lab_flavour is {flavour}; write cloud, or leave it empty for a plain host.")
    if release not in CODENAMES:
        raise Refusal(f"there is no image of a Debian {release}: the kit supports {' and '.join(CODENAMES)}.")
    image = f"{NAME}:{tag}"
    command, files = definition(release, flavour=flavour)
    wanted = digest(command, files)
    found = podman("image", "inspect", "--format", f'{{{{ index .Labels "{LABEL}" }}}}', image, check=False)
    if not force and found.returncode == 0 and found.stdout.strip() == wanted:
        return
    overlay = write_overlay(STATE / f"overlay-{tag}", files)
    command = [part.replace("OVERLAY", shlex.quote(str(overlay))) for part in command]
    log = STATE / f"image-{tag}.log"
    changes = ['CMD ["/sbin/init"]', f"LABEL {LABEL}={wanted}"]
    # Under a name of its own until it is whole: a build that fails leaves the image before it in place.
    unfinished = f"{image}-unfinished"
    importing = ["podman", "import", "--quiet", *(f"--change={change}" for change in changes), "-", unfinished]
    with Progress(f"lab: building {image}") as progress, log.open("w", encoding="utf-8") as out:
        # The pipe keeps 300 MB from being written to the disk and read again.
        maker = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=False)
        taker = subprocess.Popen(importing, stdin=maker.stdout, stdout=out, stderr=subprocess.STDOUT)
        assert maker.stdout and maker.stderr
        maker.stdout.close()
        for raw in maker.stderr:
            line = raw.decode(errors="replace")
            out.write(line)
            if line.startswith("I: "):
                progress.step = line[3:].strip()
        # A list, so that both are waited for.
        failed = any([maker.wait(), taker.wait()])
    if not failed:
        podman("tag", unfinished, image)
    podman("untag", unfinished, unfinished, check=False)
    remove_images(superseded=True)
    if failed:
        tail = "\n".join(deque(log.read_text(encoding="utf-8").splitlines(), maxlen=20))
        raise Refusal(f"{image} could not be built. The end of {log.relative_to(REPOSITORY)}:\n{tail}")
    shutil.rmtree(overlay)
    print(f"lab: built {image} in {progress.seconds:.0f} s", flush=True)


def remove_images(*, superseded: bool) -> None:
    """Remove our images, or only those that a newer one replaced; never one that a container still stands on."""
    only = ["--filter", "dangling=true"] if superseded else []
    for image in podman("images", "--quiet", "--filter", f"label={LABEL}", *only, check=False).stdout.split():
        podman("image", "rm", image, check=False)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("releases", nargs="*", metavar="RELEASE", help="Debian releases, e.g. 13")
    parser.add_argument("--force", action="store_true", help="build even if nothing in the definition changed")
    parser.add_argument("--remove", action="store_true", help="remove the images instead")
    arguments = parser.parse_args()
    if arguments.remove:
        if shutil.which("podman"):
            remove_images(superseded=False)
        return
    STATE.mkdir(parents=True, exist_ok=True)
    try:
        install_packages()
        for release in arguments.releases or ["13"]:
            build(release, arguments.force)
    except Refusal as refusal:
        fail(str(refusal))
    finally:
        give_back(STATE)


if __name__ == "__main__":
    main()
