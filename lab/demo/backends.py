"""Counts the server processes that PostgreSQL keeps for the application, while work goes through."""

from __future__ import annotations

import threading
from types import TracebackType

from lab.demo.fleet import Host

QUERY = "SELECT count(*) FROM pg_stat_activity WHERE datname = '{}' AND backend_type = 'client backend' \\watch 0.25\n"


class Backends:
    """`with Backends(host, database) as backends: ...; backends.peak`"""

    def __init__(self, host: Host, database: str) -> None:
        self.peak = 0
        self._host = host
        self._query = QUERY.format(database)

    def __enter__(self) -> Backends:
        sudo = "" if self._host.user == "root" else "sudo -n "
        command = sudo + "runuser -u postgres -- psql --no-psqlrc --tuples-only --no-align --dbname=postgres"
        self._stdin, self._stdout, _ = self._host.ssh.exec_command(command)
        self._stdin.write(self._query)
        self._stdin.flush()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        return self

    def _read(self) -> None:
        for line in self._stdout:
            if line.strip().isdecimal():
                self.peak = max(self.peak, int(line))

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        # psql ends when it can no longer write.
        self._stdout.channel.close()
        self._reader.join(timeout=5)
