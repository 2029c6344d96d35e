"""What makes a blank host like a provider's cloud image: `lab_flavour: cloud` in an inventory.

An account `debian` with sudo instead of root, SSH on another port, cloud-init's drop-in for sshd, package sources behind lists of
mirrors, umask 077 by PAM, chrony, an active ufw, a monitoring agent, and a package manager that is busy for the first minute.
"""

from __future__ import annotations

from lab.machine import REPOSITORY

ACCOUNT = "debian"
SSH_PORT = 2222
# The provider's; the inventory must declare it.
TIME_SERVER = "10.77.0.1"
# Seconds that dpkg's lock is held after the first boot: longer than Ansible takes to reach its first package.
LOCK_SECONDS = 60

PACKAGES = ("chrony", "iptables", "libcap2-bin", "libpam-runtime", "openssl", "ufw")

FIRST_BOOT_UNIT = f"""\
[Unit]
Description=Hold dpkg's lock, as the upgrade at a first boot does
ConditionPathExists=!/var/lib/first-boot-upgrade

[Service]
Type=exec
ExecStart=/usr/bin/python3 /usr/local/lib/first-boot-upgrade.py {LOCK_SECONDS}

[Install]
WantedBy=multi-user.target
"""

# The second rule is for an agent of the provider; the inventory must declare it before the kit's firewall takes over.
AGENT_PORT = 9100
UFW_RULES = (f"allow {SSH_PORT}/tcp", f"allow from 10.79.0.1 to any port {AGENT_PORT} proto tcp")
AGENT_UNIT = f"""\
[Unit]
Description=The provider's monitoring agent

[Service]
User=nobody
RuntimeDirectory=provider-agent
WorkingDirectory=%t/provider-agent
ExecStartPre=/usr/bin/openssl req -x509 -newkey rsa:2048 -nodes -days 3650 -subj /CN=agent -keyout key.pem -out certificate.pem
ExecStart=/usr/bin/openssl s_server -accept {AGENT_PORT} -cert certificate.pem -key key.pem -tls1_3 -www -quiet
Restart=always

[Install]
WantedBy=multi-user.target
"""

FILES = {
    # cloud-init writes this if the provider sets a password.
    "etc/ssh/sshd_config.d/50-cloud-init.conf": "PasswordAuthentication yes\n",
    "etc/ssh/sshd_config.d/20-provider.conf": f"Port {SSH_PORT}\n",
    "etc/sudoers.d/90-cloud-init-users": f"{ACCOUNT} ALL=(ALL) NOPASSWD:ALL\n",
    "etc/systemd/system/first-boot-upgrade.service": FIRST_BOOT_UNIT,
    "etc/systemd/system/provider-agent.service": AGENT_UNIT,
    # A container's clock is the machine's: chronyd runs but does not set it.
    "etc/systemd/system/chrony.service.d/lab.conf": "[Unit]\nConditionCapability=\n[Service]\nEnvironmentFile=/etc/chrony-lab\n",
    "etc/chrony-lab": 'DAEMON_OPTS="-F 0 -x"\n',
    "usr/local/lib/first-boot-upgrade.py": (REPOSITORY / "lab/guest/first-boot-upgrade.py").read_text(encoding="utf-8"),
}


def source_files(sources: list[str]) -> dict[str, str]:
    """Lines for apt → the same archives in the form of Debian's cloud images: deb822 and a list of mirrors per address.

    >>> files = source_files(["deb copy:///debian/ trixie main", "deb copy:///debian/ trixie-updates main"])
    >>> files["etc/apt/mirrors/1.list"]
    'copy:///debian/\\n'
    >>> print(files["etc/apt/sources.list.d/debian.sources"], end="")
    Types: deb
    URIs: mirror+file:///etc/apt/mirrors/1.list
    Suites: trixie trixie-updates
    Components: main
    Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg
    """
    suites: dict[tuple[str, str], list[str]] = {}
    for line in sources:
        _, uri, suite, components = line.split(" ", 3)
        suites.setdefault((uri, components), []).append(suite)
    lists, stanzas = {}, []
    for number, ((uri, components), names) in enumerate(suites.items(), 1):
        lists[f"etc/apt/mirrors/{number}.list"] = f"{uri}\n"
        stanzas.append(
            f"Types: deb\nURIs: mirror+file:///etc/apt/mirrors/{number}.list\nSuites: {' '.join(names)}\n"
            f"Components: {components}\nSigned-By: /usr/share/keyrings/debian-archive-keyring.gpg\n"
        )
    return lists | {"etc/apt/sources.list.d/debian.sources": "\n".join(stanzas)}


# The package sources stay here until the image is complete: mmdebstrap's apt cannot read lists of mirrors inside it.
STAGED = "usr/share/cloud-sources"

HOOKS = tuple(
    f"--customize-hook=chroot \"$1\" sh -euc '{line}'"
    for line in (
        f"useradd --create-home --shell /bin/bash {ACCOUNT}",
        "chmod 0440 /etc/sudoers.d/90-cloud-init-users",
        "for stack in session session-noninteractive; do "
        "echo session optional pam_umask.so umask=0077 >> /etc/pam.d/common-$stack; done",
        "systemctl enable first-boot-upgrade.service provider-agent.service",
        *(f"ufw {rule}" for rule in UFW_RULES),
        f'sed -i "s/^pool .*/server {TIME_SERVER} iburst/" /etc/chrony/chrony.conf',
        "sed -i s/^ENABLED=.*/ENABLED=yes/ /etc/ufw/ufw.conf",
        f"rm -f /etc/apt/sources.list && cp -r /{STAGED}/. / && rm -r /{STAGED}",
    )
)


def files(sources: list[str]) -> dict[str, str]:
    """The files of the flavour, by path in the image."""
    return FILES | {f"{STAGED}/{name}": text for name, text in source_files(sources).items()}
