"""Find out whether a guest really boots under hardware KVM here; a device that opens proves nothing."""

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

# What the first program says once the kernel has come up and started it; it would go on to look for a disk.
BOOTED = "Spawning shell within the initramfs"
KERNEL_OPTIONS = "break=top"
# A kernel under KVM writes within a second of its start, and is through within five; one that hangs falls silent.
SILENCE_S = 15.0
PROBE_S = 60.0


def rendered(template: str, **values: object) -> str:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES), undefined=jinja2.StrictUndefined, trim_blocks=True, keep_trailing_newline=True
    )
    return environment.get_template(template).render(**values)


def choose(device: bool, boots: bool) -> str:
    """The domain type: hardware where a guest boots under it, emulation elsewhere."""
    return "kvm" if device and boots else "qemu"


def hypervisor(release: str) -> str:
    """The domain type for this machine; asked once in its uptime, since the answer is the machine's."""
    asked = {"boot": Path("/proc/sys/kernel/random/boot_id").read_text(encoding="utf-8").strip(), "release": release}
    if ANSWER.exists() and (known := json.loads(ANSWER.read_text(encoding="utf-8"))).get("asked") == asked:
        return known["hypervisor"]
    device = DEVICE.exists()
    kind = choose(device, device and boots(release))
    print(f"kvm: the guests run as `{kind}`", flush=True)
    ANSWER.write_text(json.dumps({"asked": asked, "hypervisor": kind}) + "\n", encoding="utf-8")
    return kind


def boots(release: str, kind: str = "kvm") -> bool:
    """Start the guests' own kernel without a disk or a network, and watch its console for as long as it goes on."""
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
        # libvirt itself will not have it, e.g. because QEMU may not open the device.
        print(f"kvm: {refusal}", flush=True)
        return False
    finally:
        virsh("destroy", DOMAIN, check=False)


def watch(console: Path, silence_s: float = SILENCE_S, probe_s: float = PROBE_S) -> bool:
    """Whether the console comes to say that the guest is up, before it falls silent or takes too long."""
    began = moved = time.monotonic()
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
            seen, moved = text, now
        if now - moved > silence_s or now - began > probe_s:
            return False
        time.sleep(0.2)  # between two looks; the deadlines end them
