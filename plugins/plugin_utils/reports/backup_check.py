"""What must be kept where, and what is missing of it: on the control machine, and by the status of the backups."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from .backups import answered, backup_rows, backups_attention
from .file_backups import files_attention, files_rows
from .status import HostInfo, Report
from .work_rates import span


@dataclass(frozen=True)
class Control:
    """The control machine.

    vault: its content; None if it cannot be read, and vault_problem says why.  authorities: that the hosts trust.
    passphrases: repository host to its passphrase.  versions: fleet.version_control.state of the inventory.
    """

    inventory: str
    vault_path: str
    vault: Mapping[str, Any] | None
    vault_problem: str = ""
    password_path: str = ""
    password_tracked: bool = False
    authorities: list[str] = field(default_factory=list)
    passphrases: dict[str, str] = field(default_factory=dict)
    versions: Mapping[str, Any] | None = None


def to_keep(control: Control, report: Report) -> list[tuple[str, str]]:
    """What, and where it is and must also be."""
    repositories = ", ".join(host for host, _ in answered(report, "backups")) or "no repository host"
    stores = ", ".join(host for host, answer in answered(report, "files") if "repositories" in answer) or "in no backup"
    return [
        ("the vault's password", f"{control.password_path or 'nowhere'}; also apart from the inventory, for example on paper"),
        ("the inventory with its vault", f"{control.inventory}; also in version control on another machine"),
        ("the databases", f"{repositories}; also where the database's host cannot delete them (a snapshot, a second provider)"),
        ("files of the applications", f"{stores}; those of hosts with role restic (docs/backups.md)"),
    ]


def missing(control: Control, report: Report, hosts: Mapping[str, HostInfo]) -> list[str]:
    """A sentence for each thing that is missing."""
    return [
        sentence
        for sentences in (
            _vault(control),
            _versions(control),
            _repositories(control, report, hosts),
            backups_attention(report),
            files_attention(report),
        )
        for sentence in sentences
    ]


def lines(report: Report) -> Iterator[tuple[str, str]]:
    """What the repositories hold, with the rows of the status report."""
    yield from backup_rows(report)
    yield from files_rows(report)
    for host, backup in answered(report, "backups"):
        if backup["label"] is not None:
            full = span(backup["full_age_s"])
            yield (
                "moments",
                f"{host}: any moment of the last {span(backup['reach_s'])} can be restored; last full backup {full} ago",
            )


def _vault(control: Control) -> Iterator[str]:
    if not control.password_path:
        yield (
            "There is no password of the vault on this machine, so neither the vault nor any backup can be read. Restore the "
            "file that vault_password_file in ansible.cfg names."
        )
    elif control.password_tracked:
        yield (
            f"{control.password_path} is under version control, so anyone with a copy opens the vault. Take it out of the "
            f"history, keep it apart from the inventory, and run `make rotate`."
        )
    if control.vault is None:
        yield f"{control.vault_problem}: the passwords and the authority's key would be lost with this machine."
        return
    held = control.vault.get("vault_pki_authorities") or {}
    for name in control.authorities:
        if not (held.get(name) or {}).get("key"):
            yield (
                f"The vault has no key of the authority {name}, so no host could get a certificate again. Restore the vault from "
                f"an earlier commit."
            )
    known = set(texts(control.vault))
    for host, passphrase in control.passphrases.items():
        if passphrase not in known:
            yield (
                f"{host}: the passphrase of its repository is not in the vault, so it is lost together with the host. Bind "
                f"pgbackrest_repo_cipher_pass to vault_pgbackrest_repo_cipher_pass."
            )


def texts(value: Any) -> Iterator[str]:
    """Every text in nested data.

    >>> list(texts({"a": "x", "b": {"c": ["y"]}}))
    ['x', 'y']
    """
    if isinstance(value, Mapping):
        value = list(value.values())
    if isinstance(value, list):
        for entry in value:
            yield from texts(entry)
    elif isinstance(value, str):
        yield str(value)


def _versions(control: Control) -> Iterator[str]:
    versions, inventory = control.versions, control.inventory
    if versions is None:
        yield f"{inventory} is not under version control, so it is lost with this machine: move it into a repository of git."
        return
    for name in versions["ignored"]:
        if name.endswith("vault.yml"):
            yield f"{name} is ignored by git, so no commit holds the vault: git add --force it. It is encrypted."
    if names := versions["uncommitted"]:
        more = f" and {len(names) - 3} more" if len(names) > 3 else ""
        yield f"{inventory}: {', '.join(names[:3])}{more} differ from the last commit. Commit them."
    if versions["unpushed"] is None:
        yield f"{inventory} is in a repository without a remote, so its only copy is on this machine: git remote add, and push."
    elif versions["unpushed"]:
        yield f"{inventory}: {versions['unpushed']} commits are on this machine only: git push."


def _repositories(control: Control, report: Report, hosts: Mapping[str, HostInfo]) -> Iterator[str]:
    unknown = [name for name, info in hosts.items() if "pgbackrest" in info.roles and not report["hosts"][name]["reachable"]]
    for name in unknown:
        yield f"{name} did not answer, so nothing is known about its part of the backups: {report['hosts'][name]['error']}"
    for section in ("archives", "backups"):
        for name, answer in report[section].items():
            if "error" in answer:
                yield f"{name}: its backups could not be looked at: {answer['error']}"
    for name, info in hosts.items():
        if "postgresql" in info.roles and "pgbackrest" not in info.roles:
            yield f"{name}: its databases are in no backup. Add a repository host (docs/backups.md)."
    if not control.passphrases and any("pgbackrest" in info.roles for info in hosts.values()):
        yield "No host of this run keeps a repository: name one by pgbackrest_database_hosts, or run again without --limit."
