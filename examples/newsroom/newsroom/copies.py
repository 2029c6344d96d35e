"""The second copy of each upload and result, on another producer. A copy that no peer has taken yet is a debt: an empty file
KEY.NAME, which survives restarts. A thread in each web process settles the debts.

`python -m newsroom.copies`: owe a copy of everything here, after another producer was replaced by a blank host.
"""

import fcntl
import hashlib
import logging
import os
import random
import sys
import threading
import time
from collections.abc import Iterable
from itertools import takewhile

import requests

from newsroom import auth, files, keys, settings, transfer

WITHDRAWN = "withdrawn"  # instead of a file's name: the job was not accepted after all, and peers must remove it
INTERVAL_S = 5
# Seconds to connect and to wait for the answer while a client waits. Also ends the wait of two busy producers for each other.
QUICK = (0.5, 2)
PATIENCE_S = 1  # no further peer is tried after this

log = logging.getLogger("gunicorn.error")


class Copies:
    def __init__(self, conf: settings.Settings, store: files.Store) -> None:
        self.conf = conf
        self.store = store
        self.debts = conf.data_dir / "owed"
        self._wake = threading.Event()

    def start(self) -> None:
        if self.conf.peer_urls:
            threading.Thread(target=self._run, name="copies", daemon=True).start()

    def hand_over(self, key: str, name: str) -> bool:
        """Whether a peer took the file at once."""
        for peer in self._quickly(key):
            try:
                if self._put(peer, key, name, QUICK):
                    return True
            except requests.RequestException as error:
                log.warning("no copy yet of %s of %s: %s", name, key, error)
        return False

    def fetch(self, key: str, name: str) -> None:
        """Take a result that is missing here from a peer."""
        for peer in self._quickly(key):
            with self.store.receive() as received:
                try:
                    url = f"{peer}/internal/videos/{key}/{name}"
                    transfer.fetch(url, self.conf.token, received, self.conf.max_result_bytes, self.conf.ca_file, QUICK)
                except (requests.RequestException, transfer.Gone):
                    continue
                self.store.keep(received, key, name)
                return

    def owe(self, key: str, *names: str) -> None:
        if self.conf.peer_urls:
            self.debts.mkdir(parents=True, exist_ok=True)
            for name in names:
                (self.debts / f"{key}.{name}").touch()
            files.sync(self.debts)
            self._wake.set()

    def settle(self) -> None:
        """One attempt at all debts. A peer that stops answering ends it."""
        debts = list(self.debts.iterdir())
        random.shuffle(debts)  # a copy that always fails must not hold up the others
        answering = {peer for peer in self.conf.peer_urls if debts and self._answers(peer)}
        for debt in debts:
            key, _, name = debt.name.partition(".")
            if self._withdraw(key, answering) if name == WITHDRAWN else self._copy(key, name, answering):
                debt.unlink(missing_ok=True)

    def _copy(self, key: str, name: str, answering: set[str]) -> bool:
        peers = [peer for peer in self._peers(key) if peer in answering]
        try:
            held = any(self._ask("HEAD", f"{peer}/internal/videos/{key}/{name}").ok for peer in peers)
            return held or any(self._put(peer, key, name) for peer in peers)
        except FileNotFoundError:
            return True  # removed here in the meantime

    def _withdraw(self, key: str, answering: set[str]) -> bool:
        removed = {peer for peer in answering if self._ask("DELETE", f"{peer}/internal/copies/{key}").ok}
        return removed == set(self.conf.peer_urls)

    def _put(self, peer: str, key: str, name: str, timeout: tuple[float, float] = transfer.TIMEOUT) -> bool:
        with self.store.path(key, name).open("rb") as body:
            answer = self._ask("PUT", f"{peer}/internal/copies/{key}/{name}", timeout, body)
        if not answer.ok:
            log.warning("%s does not take %s of %s: %s", peer, name, key, answer.status_code)
        return answer.ok

    def _answers(self, peer: str) -> bool:
        try:
            return self._ask("GET", f"{peer}/healthz").ok
        except requests.RequestException:
            return False

    def _ask(self, method: str, url: str, timeout=transfer.TIMEOUT, body=None) -> requests.Response:
        options = {"timeout": timeout, "verify": self.conf.ca_file or True, "allow_redirects": False}
        return requests.request(method, url, data=body, headers=auth.header(self.conf.token), **options)

    def _quickly(self, key: str) -> Iterable[str]:
        end = time.monotonic() + PATIENCE_S
        return takewhile(lambda _: time.monotonic() < end, self._peers(key))

    def _peers(self, key: str) -> list[str]:
        """In an order of the key's own: copies are spread over all peers, and the files of one job meet at the same peer."""
        return sorted(self.conf.peer_urls, key=lambda peer: hashlib.sha256(f"{key}{peer}".encode()).digest())

    def _run(self) -> None:
        while True:
            self._wake.wait(INTERVAL_S)
            self._wake.clear()
            try:
                self._settle_alone()
            except (FileNotFoundError, BlockingIOError):
                pass  # nothing was ever owed here, or another process of this host is at it
            except Exception as error:
                log.warning("copies are still owed: %s", error)

    def _settle_alone(self) -> None:
        handle = os.open(self.debts, os.O_RDONLY)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self.settle()
        finally:
            os.close(handle)


def main() -> None:
    conf = settings.load(os.environ)
    if not conf.peer_urls:
        sys.exit("NEWSROOM_PEER_URLS is empty: there is no other producer.")
    if os.geteuid() != conf.data_dir.stat().st_uid:
        sys.exit(f"Run this as {conf.data_dir.owner()}, or the web processes could not write to {conf.data_dir}/owed.")
    copies = Copies(conf, files.Store(conf.data_dir))
    jobs = [job for job in copies.store.jobs.glob("*") if keys.is_key(job.name)]
    for job in jobs:
        copies.owe(job.name, *(file.name for file in job.iterdir()))
    print(f"{len(jobs)} jobs: the web processes now copy what no other producer has.")


if __name__ == "__main__":
    main()
