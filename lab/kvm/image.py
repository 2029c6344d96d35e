"""Build a bootable disk of a blank Debian host, with its kernel beside it, from the same root as the lab's containers."""

from __future__ import annotations

import json
import shlex
import shutil
import subprocess
from pathlib import Path

from lab.access import KEY, make_key
from lab.image import definition, digest, write_overlay
from lab.kvm.machine import STATE
from lab.machine import REPOSITORY, Refusal
from lab.progress import Progress

# libvirt's directory for disks: QEMU's account may not be able to read a checkout.
IMAGES = Path("/var/lib/libvirt/images")
# Sparse: it takes only what is written to it.
DISK_SIZE = "10G"

KERNEL = (
    "linux-image-cloud-amd64",
    "e2fsprogs",
    "initramfs-tools",
    "kmod",
    # Finds the disks and the network card.
    "udev",
    # Debian's installer sets up this clock too.
    "systemd-timesyncd",
)

# Only what a guest's disk needs: the modules are unpacked at each boot.
INITRAMFS = {
    "etc/initramfs-tools/conf.d/lab.conf": "MODULES=list\n",
    "usr/share/initramfs-tools/modules.d/lab": "virtio_pci\nvirtio_blk\next4\n",
}

# The network's definition binds the address to the card, for DHCP. The same server answers DNS.
NETWORK = """\
[Match]
Type=ether

[Network]
DHCP=ipv4
LinkLocalAddressing=no
IPv6AcceptRA=no

[DHCPv4]
UseDNS=no
UseHostname=no
"""


def image(release: str) -> Path:
    return IMAGES / f"grunnfjell-kvm-{release}"


def files_of_a_machine(gateway: str) -> dict[str, str]:
    """What a guest needs that podman gives to a container: its network, its disks, and the key that may log in."""
    return {
        "etc/systemd/network/10-lab.network": NETWORK,
        "etc/resolv.conf": f"nameserver {gateway}\n",
        "etc/fstab": "LABEL=root / ext4 errors=remount-ro 0 1\n",
        # An emulated machine boots slowly. How long a stop may take is set by the roles.
        "etc/systemd/system.conf.d/lab.conf": "[Manager]\nDefaultTimeoutStartSec=10min\nDefaultDeviceTimeoutSec=10min\n",
        # QEMU starts the kernel and initrd beside the disk. The guest would rebuild its unused initrd with many packages, for
        # minutes under emulation.
        "etc/initramfs-tools/update-initramfs.conf": "update_initramfs=no\nbackup_initramfs=no\n",
        # Dates newer than /usr: otherwise the first boot runs ldconfig and the like.
        "etc/.updated": "",
        "var/.updated": "",
        "root/.ssh/authorized_keys": KEY.with_suffix(".pub").read_text(encoding="utf-8"),
    }


def build(release: str, gateway: str) -> Path:
    """The image's directory, with disk.raw, vmlinuz and initrd.img; rebuilt when its definition changed."""
    make_key()
    command, files = definition(release, kernel=KERNEL)
    files |= INITRAMFS
    late = files_of_a_machine(gateway)
    wanted = digest([*command, json.dumps(late), DISK_SIZE], files)
    target = image(release)
    if (target / "definition").is_file() and (target / "definition").read_text(encoding="utf-8") == wanted:
        return target
    STATE.mkdir(parents=True, exist_ok=True)
    overlay = write_overlay(STATE / f"overlay-{release}", files)
    root = STATE / f"root-{release}"
    log = STATE / f"image-{release}.log"
    shutil.rmtree(root, ignore_errors=True)
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    # "-" is the pipe to which a container's image goes.
    to_root = [str(root) if part == "-" else part.replace("OVERLAY", shlex.quote(str(overlay))) for part in command]
    with Progress(f"kvm: building a disk of Debian {release}") as progress, log.open("w", encoding="utf-8") as out:
        run(to_root, out, log)
        finish_root(root, late, out, log)
        for name in ("vmlinuz", "initrd.img"):
            shutil.copyfile((root / name).resolve(), target / name)
        disk = target / "disk.raw"
        progress.step = "writing the file system"
        run(["mke2fs", "-q", "-t", "ext4", "-L", "root", "-d", str(root), str(disk), DISK_SIZE], out, log)
    shutil.rmtree(root)
    shutil.rmtree(overlay)
    (target / "definition").write_text(wanted, encoding="utf-8")
    print(f"kvm: built a disk of Debian {release} in {progress.seconds:.0f} s", flush=True)
    return target


def finish_root(root: Path, late: dict[str, str], out, log: Path) -> None:
    # Late: mmdebstrap uses some of these names while it works.
    for name, text in late.items():
        path = root / name
        path.unlink(missing_ok=True)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    run(["chroot", str(root), "systemctl", "enable", "systemd-networkd.service"], out, log)


def run(command: list[str], out, log: Path) -> None:
    done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT, check=False)
    if done.returncode:
        tail = "\n".join(log.read_text(encoding="utf-8", errors="replace").splitlines()[-20:])
        raise Refusal(f"{command[0]} failed. The end of {log.relative_to(REPOSITORY)}:\n{tail}")
