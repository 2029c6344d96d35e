"""Find out whether a guest boots under hardware KVM here; a device that opens does not prove it."""

from __future__ import annotations

import json
import time
from pathlib import Path

import jinja2

from lab.kvm.image import image
from lab.kvm.machine import STATE, virsh
from lab.machine import Refusal

DEVICE = Path("/dev/kvm")
DOMAIN = "grunnfjell-kvm-probe"
CONSOLE = Path(f"/var/log/libvirt/qemu/{DOMAIN}-console.log")
TEMPLATES = Path(__file__).parent / "templates"
ANSWER = STATE / "hypervisor.json"

# Printed by the initrd once the kernel has started it, before it looks for a disk.
BOOTED = "Spawning shell within the initramfs"
KERNEL_OPTIONS = "break=top"
# A kernel under KVM prints within a second and has booted within five; one that hangs stays silent.
SILENCE_S = 15.0
PROBE_S = 60.0


def rendered(template: str, **values: object) -> str:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES), undefined=jinja2.StrictUndefined, trim_blocks=True, keep_trailing_newline=True
    )
    return environment.get_template(template).render(**values)


def choose(device: bool, boots: bool) -> str:
    """The domain type: hardware if a guest boots under it, otherwise emulation."""
    return "kvm" if device and boots else "qemu"


def hypervisor(release: str) -> str:
    """The domain type for this machine, probed once per boot and release."""
    key = {"boot": Path("/proc/sys/kernel/random/boot_id").read_text(encoding="utf-8").strip(), "release": release}
    if ANSWER.exists() and (known := json.loads(ANSWER.read_text(encoding="utf-8"))).get("asked") == key:
        return known["hypervisor"]
    device = DEVICE.exists()
    kind = choose(device, device and boots(release))
    print(f"kvm: the guests run as `{kind}`", flush=True)
    ANSWER.write_text(json.dumps({"asked": key, "hypervisor": kind}) + "\n", encoding="utf-8")
    return kind


def boots(release: str, kind: str = "kvm") -> bool:
    """Start the guests' kernel without disk or network, and watch its console."""
    guest = {
        "name": "probe", "domain": DOMAIN, "hypervisor": kind, "memory_mib": 512, "cpus": 1, "mac": "", "disks": [],
        "image": str(image(release)), "console": str(CONSOLE), "kernel_options": KERNEL_OPTIONS,
    }  # fmt: skip
    definition = STATE / "probe.xml"
    definition.write_text(rendered("domain.xml.j2", guest=guest), encoding="utf-8")
    virsh("destroy", DOMAIN, check=False)
    CONSOLE.unlink(missing_ok=True)
    try:
        virsh("create", str(definition))
        return watch(CONSOLE)
    except Refusal as refusal:
        # libvirt refuses, e.g. because QEMU may not open the device.
        print(f"kvm: {refusal}", flush=True)
        return False
    finally:
        virsh("destroy", DOMAIN, check=False)


def watch(console: Path, silence_s: float = SILENCE_S, probe_s: float = PROBE_S) -> bool:
    """Whether the console reports that the guest is up, before it is silent or takes too long."""
    began = changed = time.monotonic()
    seen = ""
    while True:
        try:
            text = console.read_text(encoding="utf-8", errors="replace")
        except OSError:
            text = ""
        now = time.monotonic()
        if BOOTED in text:
            return True
        if text != seen:
            seen, changed = text, now
        if now - changed > silence_s or now - began > probe_s:
            return False
        time.sleep(0.2)  # between two looks; the deadlines end them
