#!/usr/bin/python3
"""Keeps a host's keys, certificates and trusted authorities."""

from __future__ import annotations

DOCUMENTATION = r"""
module: pki_identity
short_description: Create a host's keys and install their certificates
description:
  - The host's half of the action of this name, which signs on the control machine. A key never leaves its host.
  - An identity is a symbolic link to a directory with a key and a certificate, so one rename switches both.
  - Reloads the services that use a changed identity. A reload that failed is repeated by the next run.
options:
  identities:
    description: Name to C(group) (which may read the key), C(unit) (reloaded only while active) and C(reload) (the command).
    type: dict
    required: true
  authorities: {description: Certificates of all trusted authorities., type: str, required: true}
  renew: {description: Identities that get a new key though theirs is valid., type: list, elements: str, default: []}
  certificates: {description: "Identity to C(certificate), and to the fingerprint of its C(issuer).", type: dict, default: {}}
author: maintainers
"""

RETURN = r"""
certificates: {description: Identity to its installed certificate., type: dict, returned: success}
requests: {description: Identity to the signing request for its new key., type: dict, returned: success}
missing: {description: Identities without a valid key and certificate., type: list, elements: str, returned: success}
did: {description: "What was done, or would be in check mode.", type: list, elements: str, returned: success}
"""

import grp
import os
import shutil
import ssl
import subprocess
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ..module_utils.pki_files import BUNDLE, CERTIFICATE, HOME, ISSUER, KEY, identities, text_of
from ..module_utils.whole_files import ManagedFile, usual_umask, write_files

MODES = ((KEY, 0o640), (CERTIFICATE, 0o640), (ISSUER, 0o644))


class Failure(Exception):
    """A message for the operator."""


class Store:
    """The directory that holds a host's identities."""

    def __init__(self, home: Path, check_mode: bool) -> None:
        self.home, self.check_mode = home, check_mode
        self.versions, self.pending, self.unreloaded = home / ".versions", home / ".pending", home / ".untold"
        self.did: list[str] = []

    def do(self, what: str) -> bool:
        """Notes a change; returns whether to make it."""
        self.did.append(what)
        return not self.check_mode

    def prepare(self, groups: set[str]) -> None:
        for group in sorted(groups):
            try:
                grp.getgrnam(group)
            except KeyError:
                # Before its package does, and like that as a system group.
                if self.do(f"group {group}"):
                    call("groupadd", "--system", group)
        for path, mode in ((self.home, 0o755), (self.versions, 0o711), (self.pending, 0o700), (self.unreloaded, 0o700)):
            if not path.is_dir() and not self.check_mode:
                path.mkdir(parents=True, mode=mode)
                path.chmod(mode)

    def trust(self, bundle: str) -> None:
        path = str(self.home / BUNDLE)
        before = text_of(path)
        written = write_files([ManagedFile(path, bundle, "root", "root", 0o644)], check_mode=True)
        if not written.changed or not self.do("authorities"):
            return
        # Noted first: a run that is interrupted here reloads once too often, never too rarely.
        if before is not None and before != bundle:
            for name in identities(str(self.home)):
                self.note(name)
        write_files([ManagedFile(path, bundle, "root", "root", 0o644)], check_mode=False)

    def forget(self, wanted: set[str]) -> None:
        for name in identities(str(self.home)):
            if name not in wanted and self.do(f"removed {name}"):
                (self.home / name).unlink()
        keep = {os.path.basename(os.readlink(self.home / name)) for name in identities(str(self.home))}
        for directory in self.versions.iterdir() if self.versions.is_dir() else []:
            if directory.name not in keep and not self.check_mode:
                shutil.rmtree(directory)
        for parent in (self.pending, self.unreloaded):
            for entry in parent.iterdir() if parent.is_dir() else []:
                if entry.name not in wanted and not self.check_mode:
                    shutil.rmtree(entry) if entry.is_dir() else entry.unlink()

    def is_valid(self, name: str, group: str) -> bool:
        """Whether the key and the certificate exist and match; corrects their owner and mode."""
        directory = self.home / name
        try:
            ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_cert_chain(directory / CERTIFICATE, directory / KEY)
        except (OSError, ssl.SSLError):
            return False
        try:
            gid = grp.getgrnam(group).gr_gid
        except KeyError:
            return True  # check mode
        for path, mode in ((directory.resolve(), 0o750), *((directory / file, mode) for file, mode in MODES)):
            status = path.stat()
            if (status.st_uid, status.st_gid, status.st_mode & 0o7777) != (0, gid, mode) and self.do(f"access to {name}"):
                os.chown(path, 0, gid)
                path.chmod(mode)
        return True

    def request(self, name: str) -> str:
        """Creates a new key that is not used yet; returns the signing request."""
        directory = self.pending / name
        shutil.rmtree(directory, ignore_errors=True)
        directory.mkdir(mode=0o700)
        key = str(directory / KEY)
        call("openssl", "genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out", key)
        return call("openssl", "req", "-new", "-key", key, "-subj", f"/CN={name}", "-sha256")

    def install(self, name: str, group: str, certificate: str, issuer: str) -> None:
        new, gid = self.pending / name, grp.getgrnam(group).gr_gid
        if not new.is_dir():
            raise Failure(f"The key of {name} that the certificate was issued for is gone. Run again.")
        for file, text in ((CERTIFICATE, certificate), (ISSUER, issuer)):
            (new / file).write_text(text, encoding="utf-8")
        try:
            ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_cert_chain(new / CERTIFICATE, new / KEY)
        except ssl.SSLError as error:
            raise Failure(f"The certificate for {name} does not belong to its key: {error}. Run again.") from error
        for path, mode in (*((new / file, mode) for file, mode in MODES), (new, 0o750)):
            os.chown(path, 0, gid)
            path.chmod(mode)
        synced(new / KEY, new / CERTIFICATE, new / ISSUER, new)
        number = 1 + max((int(entry.name.rpartition("-")[2]) for entry in self.versions.glob(f"{name}-*")), default=0)
        version = self.versions / f"{name}-{number}"
        new.rename(version)
        self.note(name)
        link = self.pending / f"{name}.link"
        link.unlink(missing_ok=True)
        link.symlink_to(os.path.relpath(version, self.home))
        link.rename(self.home / name)
        synced(self.home)
        self.did.append(f"certificate {name}")

    def note(self, name: str) -> None:
        (self.unreloaded / name).touch()

    def reload_services(self, wanted: dict[str, dict[str, Any]]) -> None:
        for name, identity in wanted.items():
            mark, unit = self.unreloaded / name, identity.get("unit")
            if not mark.exists():
                continue
            if unit and call_code("systemctl", "is-active", "--quiet", unit) == 0 and self.do(f"reloaded {unit}"):
                call(*(identity.get("reload") or ["systemctl", "reload", unit]))
            if not self.check_mode:
                mark.unlink()


def synced(*paths: Path) -> None:
    for path in paths:
        descriptor = os.open(path, os.O_RDONLY)
        os.fsync(descriptor)
        os.close(descriptor)


def call(*argv: str) -> str:
    try:
        done = subprocess.run(argv, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL, umask=0o077)
    except FileNotFoundError as error:
        raise Failure(f"{argv[0]} is not installed on this host. Add its package to host_packages.") from error
    if done.returncode:
        raise Failure(f"{' '.join(argv)} ended with {done.returncode}: {(done.stderr or done.stdout).strip()[-1000:]}")
    return done.stdout


def call_code(*argv: str) -> int:
    return subprocess.run(argv, capture_output=True, check=False, stdin=subprocess.DEVNULL).returncode


def run(store: Store, params: dict[str, Any]) -> dict[str, Any]:
    wanted = params["identities"]
    store.prepare({identity["group"] for identity in wanted.values()})
    store.trust(params["authorities"])
    store.forget(set(wanted))
    for name, given in params["certificates"].items():
        store.install(name, wanted[name]["group"], given["certificate"], given["issuer"])
    store.forget(set(wanted))
    missing = [name for name, identity in wanted.items() if not store.is_valid(name, identity["group"])]
    renewed = [name for name in wanted if name in missing or name in params["renew"]]
    requests = {} if store.check_mode else {name: store.request(name) for name in renewed}
    if not requests:
        store.reload_services(wanted)
    certificates = {name: text_of(str(store.home / name / CERTIFICATE)) for name in wanted if name not in missing}
    return {"certificates": certificates, "requests": requests, "missing": missing}


def main() -> None:
    usual_umask()
    module = AnsibleModule(
        argument_spec={
            "identities": {"type": "dict", "required": True},
            "authorities": {"type": "str", "required": True},
            "renew": {"type": "list", "elements": "str", "default": []},
            "certificates": {"type": "dict", "default": {}},
        },
        supports_check_mode=True,
    )
    store = Store(Path(HOME), module.check_mode)
    try:
        result = run(store, module.params)
    except Failure as failure:
        module.fail_json(msg=str(failure), did=store.did)
    module.exit_json(changed=bool(store.did), did=store.did, **result)


if __name__ == "__main__":
    main()
