"""How this machine reaches Debian's archive and its package index, read from its apt and pip settings.

No file of the kit names a mirror, proxy or index: the lab's hosts use what this machine uses.
"""

from __future__ import annotations

import configparser
import os
import re
import subprocess
from pathlib import Path

PEM = re.compile(r"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----\n?", re.DOTALL)


def output(*command: str) -> str:
    return subprocess.run(command, text=True, capture_output=True, check=True).stdout


def apt_targets(*fields: str) -> str:
    """A line for each list of packages that apt is set up for, with the fields separated by bars."""
    names = "|".join(f"$({field})" for field in fields)
    return output("apt-get", "indextargets", "--no-release-info", "--format", names, "Created-By: Packages")


def read_apt_options() -> list[str]:
    return apt_options(output("apt-config", "dump"))


def archives(targets: str, here: str, wanted: str) -> list[str]:
    """The machine's lines for Debian's archive, turned to another release.

    `targets` is the output of `apt-get indextargets`, which has read both kinds of source files.

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
    """The apt settings with which a host reaches the same archive: proxies, TLS, disabled checks."""
    wanted = re.compile(r"^(Acquire::(https?|ftp)::\S*|Acquire::Check-(Valid-Until|Date)) \"[^\"]+\";$")
    return [line for line in dump.splitlines() if wanted.match(line)]


def added_authorities(bundle: str, debian: str) -> list[str]:
    """The certificates that this machine trusts and that are not in Debian's package."""
    known = {certificate.strip() for certificate in PEM.findall(debian)}
    return sorted({certificate.strip() + "\n" for certificate in PEM.findall(bundle) if certificate.strip() not in known})


def pip_settings(files: list[str], environment: dict[str, str]) -> dict[str, str]:
    """How this machine reaches its package index, from pip's files (weakest first) and variables.

    Paths on this machine's disk are left out: a host does not have them.
    """
    settings: dict[str, str] = {}
    for key in ("index-url", "extra-index-url", "trusted-host", "proxy", "timeout"):
        values = []
        for text in files:
            parser = configparser.RawConfigParser()
            parser.read_string(text)
            values += [parser.get(section, key, fallback="") for section in ("global", "install")]
        values.append(environment.get("PIP_" + key.upper().replace("-", "_"), ""))
        kept = [" ".join(word for word in value.split() if not word.startswith(("file:", "/"))) for value in values]
        if any(kept):
            settings[key] = [value for value in kept if value][-1]
    return settings


def read_pip_settings() -> dict[str, str]:
    home = Path(f"~{os.environ.get('SUDO_USER', '')}").expanduser()
    paths = [Path("/etc/xdg/pip/pip.conf"), Path("/etc/pip.conf"), home / ".pip/pip.conf", home / ".config/pip/pip.conf"]
    if named := os.environ.get("PIP_CONFIG_FILE"):
        paths.append(Path(named))
    return pip_settings([path.read_text(encoding="utf-8") for path in paths if path.is_file()], dict(os.environ))


def read_authorities() -> list[str]:
    bundle = Path(os.environ.get("SSL_CERT_FILE", "/etc/ssl/certs/ca-certificates.crt"))
    debian = "".join(path.read_text() for path in sorted(Path("/usr/share/ca-certificates").rglob("*.crt")))
    return added_authorities(bundle.read_text(encoding="utf-8"), debian) if bundle.exists() else []
