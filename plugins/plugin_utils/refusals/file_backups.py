"""Why the backups of files cannot work, across hosts. Faults of one host's inputs: sizing/restic.py."""

from __future__ import annotations

from collections.abc import Iterator

from ..fleet.inputs import mapping
from ..fleet.model import Fleet, Host, names_of, same_address

APPLICATION = {"application", "celery_worker", "producer"}


def repositories_of(host: Host) -> list[str]:
    value = host.inputs.get("restic_repositories")
    return [str(name) for name in value] if isinstance(value, list) else []


def unpaired_repositories(fleet: Fleet) -> Iterator[str]:
    """A host with files and its repository hosts agree on address, port, repository and login."""
    for host in fleet.with_role("restic"):
        for name, address in mapping(host, "restic_repository_hosts").items():
            store = fleet.hosts.get(str(name))
            if store is None:
                yield f"{host.name}: restic_repository_hosts names {name}, which is not a host of the inventory. Correct it."
            elif "restic" not in store.roles:
                yield (
                    f"{host.name}: restic_repository_hosts names {name}, which does not carry the role restic. Add its group to "
                    f"restic in topology_roles."
                )
            else:
                yield from disagreements(host, store, str(address))


def disagreements(host: Host, store: Host, address: str) -> Iterator[str]:
    repository = str(host.inputs.get("restic_repository"))
    listens = str(store.inputs.get("restic_listen_address") or "")
    if listens and not same_address(listens, address):
        yield (
            f"{host.name}: restic_repository_hosts has {address} for {store.name}, but restic_listen_address there is {listens}. "
            f"Correct one of them."
        )
    here, there = host.inputs.get("restic_port"), store.inputs.get("restic_port")
    if here != there:
        yield f"restic_port is {here} on {host.name} and {there} on {store.name}. Set the same on both."
    if repository not in repositories_of(store):
        yield (
            f"{host.name} backs up to the repository {repository} on {store.name}, but restic_repositories there does not name "
            f"it. Add it, or correct restic_repository."
        )
    elif (known := mapping(store, "restic_logins").get(repository)) and known != host.inputs.get("restic_login"):
        yield (
            f"{host.name}: restic_login is not the login that restic_logins of {store.name} has for {repository}, so every "
            f"backup would be refused. Bind both to vault_restic_logins."
        )


def shared_repositories(fleet: Fleet) -> Iterator[str]:
    """Whoever has a repository's login and key reads everything in it."""
    for key, what in {"restic_repository": "repository", "restic_password": "key"}.items():
        owners: dict[str, list[Host]] = {}
        for host in fleet.with_role("restic"):
            if mapping(host, "restic_repository_hosts") and (value := host.inputs.get(key)):
                owners.setdefault(str(value), []).append(host)
        for value, hosts in owners.items():
            if len(hosts) > 1:
                shown = f" {value}" if what == "repository" else ""
                yield (
                    f"{names_of(hosts)} have the same {what}{shown} ({key}), so root on one of them could read the files of the "
                    f"others. Give each host a different one: the default for the name, vault_restic_passwords for the key."
                )


def repositories_beside_files(fleet: Fleet) -> Iterator[str]:
    for host in fleet.with_role("restic"):
        if repositories_of(host) and APPLICATION & host.roles:
            yield (
                f"{host.name} runs an application and keeps repositories (restic_repositories): one lost disk would take files "
                f"and backups. Keep the repositories on another host."
            )


def unused_repositories(fleet: Fleet) -> Iterator[str]:
    """A login that no host uses is only of use to an intruder."""
    used = {
        (str(name), str(host.inputs.get("restic_repository")))
        for host in fleet.with_role("restic")
        for name in mapping(host, "restic_repository_hosts")
    }
    for store in fleet.with_role("restic"):
        for name in repositories_of(store):
            if (store.name, name) not in used:
                yield (
                    f"{store.name}: restic_repositories names {name}, but no host backs up to it there: its login would stay "
                    f"open for nobody. Take it out, or correct restic_repository and restic_repository_hosts of its host."
                )
