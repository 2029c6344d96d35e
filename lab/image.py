"""Build the image of a blank Debian host from Debian's archive, as this machine is configured to reach it.

The machine's apt and pip settings (lab/sources.py) go into the image, and so do the certificate authorities that it trusts.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import shlex
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from lab import cloud
from lab.machine import REPOSITORY, STATE, Refusal, install_packages, os_release, podman, refusals_shown
from lab.progress import Progress
from lab.sources import apt_targets, archives, read_apt_options, read_authorities, read_pip_settings

CODENAMES = {"12": "bookworm", "13": "trixie"}
NAME = "localhost/grunnfjell-debian"
LABEL = "grunnfjell.definition"

# A blank server: what Debian's installer installs with only "SSH server" ticked, without what a container cannot use.
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

# These find disks, consoles and hypervisors at boot; a container has none. systemd runs them at every daemon-reload, so for every
# package with a service: that took a tenth of a converge of blank hosts.
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

# Each host makes its SSH key at its first boot, or all hosts of an image would share it. One kind of key is enough, and quick.
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


def overlay_files() -> dict[str, str]:
    """The lab's files in a blank host, by path."""
    files = {
        "etc/systemd/system/ssh-hostkey.service": HOSTKEY_UNIT,
        # Empty: no role may depend on the locale that a host happens to have. PAM complains if the file is missing.
        "etc/default/locale": "",
    }
    authorities = read_authorities()
    for certificate in authorities:
        name = hashlib.sha256(certificate.encode()).hexdigest()[:12]
        files[f"usr/local/share/ca-certificates/lab-{name}.crt"] = certificate
    pip = read_pip_settings()
    if authorities:
        # pip uses its bundled authorities unless configured.
        pip["cert"] = "/etc/ssl/certs/ca-certificates.crt"
    if pip:
        files["etc/pip.conf"] = "[global]\n" + "".join(f"{key} = {value}\n" for key, value in pip.items())
    for path in sorted(Path("/etc/apt/auth.conf.d").glob("*.conf")):
        files[f"etc/apt/auth.conf.d/{path.name}"] = path.read_text(encoding="utf-8")
    return files


# The same for every image, in this order.
OPTIONS_BEFORE = (
    # After a power cut a lab host is rebuilt, not repaired, so dpkg need not wait for the disk at each file.
    "--dpkgopt=force-unsafe-io",
    # Nobody reads descriptions and documentation in the lab.
    '--aptopt=Acquire::Languages "none"',
    "--dpkgopt=path-exclude=/usr/share/doc/*",
    "--dpkgopt=path-exclude=/usr/share/locale/*",
    "--setup-hook=sync-in OVERLAY /",
    '--customize-hook=chroot "$1" update-ca-certificates',
    '--customize-hook=chroot "$1" systemctl enable ssh.service ssh-hostkey.service',
)
OPTIONS_AFTER = (
    # Each host gets these at its first boot.
    '--customize-hook=rm -f "$1"/etc/ssh/ssh_host_* "$1"/etc/hostname "$1"/etc/resolv.conf',
    # No package lists, in a directory with an old date, since Ansible's apt takes a new date for fresh lists. mmdebstrap's
    # cleanup would touch the directory after the hooks.
    "--skip=cleanup/apt",
    '--customize-hook=chroot "$1" apt-get clean',
    '--customize-hook=find "$1"/var/lib/apt/lists -mindepth 1 -delete && touch -d @0 "$1"/var/lib/apt/lists',
    '--customize-hook=install -d -m 0700 "$1"/root/.ssh',
)


def package_sources(release: str) -> list[str]:
    """This machine's lines for apt, turned to the release."""
    here = os_release()
    if here.get("ID") != "debian" or here.get("VERSION_ID") not in CODENAMES:
        raise Refusal(
            f"the lab runs on Debian {' or '.join(CODENAMES)}, and this is {here.get('PRETTY_NAME', 'something else')}. "
            "The kit does not need the lab: copy inventories/example and name your hosts."
        )
    targets = apt_targets("REPO_URI", "RELEASE", "COMPONENT", "ORIGIN")
    sources = archives(targets, here["VERSION_CODENAME"], CODENAMES[release])
    if not sources:
        raise Refusal(
            f"this machine's apt has no archive of Debian {here['VERSION_CODENAME']} with the component main: "
            "put one into /etc/apt/sources.list.d and run apt-get update."
        )
    return sources


def definition(release: str, kernel: tuple[str, ...] = (), flavour: str = "") -> tuple[list[str], dict[str, str]]:
    """The mmdebstrap command that makes the image, and the files that go into it first.

    kernel: the packages of a virtual machine's kernel; empty for a container. flavour: empty or `cloud` (lab/cloud.py).
    """
    sources = package_sources(release)
    packages = (*PACKAGES, *kernel, *(cloud.PACKAGES if flavour else ()))
    command = [
        "mmdebstrap",
        "--variant=minbase",
        f"--include={','.join(packages)}",
        *(f"--aptopt={option}" for option in read_apt_options()),
        *OPTIONS_BEFORE,
        f'--customize-hook=cd "$1"/etc/systemd && mkdir -p system-generators && for name in '
        f'{"" if kernel else " ".join(GENERATORS)}; do ln -s /dev/null "system-generators/$name"; done',
        *OPTIONS_AFTER,
        *(cloud.HOOKS if flavour else ()),
        CODENAMES[release],
        "-",
        *sources,
    ]
    return command, overlay_files() | (cloud.files(sources) if flavour else {})


def digest(command: list[str], files: dict[str, str]) -> str:
    return hashlib.sha256(json.dumps([command, files]).encode()).hexdigest()[:16]


def write_overlay(overlay: Path, files: dict[str, str]) -> Path:
    shutil.rmtree(overlay, ignore_errors=True)
    for name, text in files.items():
        path = overlay / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return overlay


def build(tag: str, force: bool = False) -> None:
    """tag: the release, then the flavour if any: 13 or 13-cloud."""
    release, _, flavour = tag.partition("-")
    if flavour not in ("", "cloud"):
        raise Refusal(f"lab_flavour is {flavour}; write cloud, or leave it empty for a plain host.")
    if release not in CODENAMES:
        raise Refusal(f"there is no image of Debian {release}: the kit supports {' and '.join(CODENAMES)}.")
    image = f"{NAME}:{tag}"
    command, files = definition(release, flavour=flavour)
    wanted = digest(command, files)
    present = podman("image", "inspect", "--format", f'{{{{ index .Labels "{LABEL}" }}}}', image, check=False)
    if not force and present.returncode == 0 and present.stdout.strip() == wanted:
        return
    overlay = write_overlay(STATE / f"overlay-{tag}", files)
    command = [part.replace("OVERLAY", shlex.quote(str(overlay))) for part in command]
    log = STATE / f"image-{tag}.log"
    # Renamed when it is complete: a failed build leaves the previous image in place.
    unfinished = f"{image}-unfinished"
    with Progress(f"lab: building {image}") as progress:
        complete = import_root(command, unfinished, wanted, log, progress)
    if complete:
        podman("tag", unfinished, image)
    podman("untag", unfinished, unfinished, check=False)
    remove_images(superseded=True)
    if not complete:
        tail = "\n".join(log.read_text(encoding="utf-8").splitlines()[-20:])
        raise Refusal(f"{image} could not be built. The end of {log.relative_to(REPOSITORY)}:\n{tail}")
    shutil.rmtree(overlay)
    print(f"lab: built {image} in {progress.seconds:.0f} s", flush=True)


def import_root(command: list[str], image: str, label: str, log: Path, progress: Progress) -> bool:
    """Pipe mmdebstrap's root into podman: 300 MB need not be written to the disk and read again."""
    changes = ['CMD ["/sbin/init"]', f"LABEL {LABEL}={label}"]
    podman_import = ["podman", "import", "--quiet", *(f"--change={change}" for change in changes), "-", image]
    with log.open("w", encoding="utf-8") as out:
        mmdebstrap = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=False)
        importer = subprocess.Popen(podman_import, stdin=mmdebstrap.stdout, stdout=out, stderr=subprocess.STDOUT)
        assert mmdebstrap.stdout and mmdebstrap.stderr
        mmdebstrap.stdout.close()
        for raw in mmdebstrap.stderr:
            line = raw.decode(errors="replace")
            out.write(line)
            if line.startswith("I: "):
                progress.step = line[3:].strip()
        # A list: wait for both.
        return not any([mmdebstrap.wait(), importer.wait()])


def remove_images(*, superseded: bool) -> None:
    """Remove the lab's images, or only those that a newer one replaced; podman keeps the ones that a container uses."""
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
    with refusals_shown(STATE):
        install_packages()
        # Each keeps one core busy, mostly with unpacking.
        with ThreadPoolExecutor() as pool:
            list(pool.map(lambda release: build(release, arguments.force), arguments.releases or ["13"]))


if __name__ == "__main__":
    main()
