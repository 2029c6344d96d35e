"""What PostgreSQL reports during work: a query that psql repeats on one connection."""

from __future__ import annotations

import threading
from types import TracebackType

from lab.demo.fleet import Host

EVERY_S = 0.25
BACKENDS = (
    "(SELECT count(*) FROM pg_stat_activity WHERE datname = '{}' AND backend_type = 'client backend' AND pid <> pg_backend_pid())"
)


class Sampled:
    """`with Sampled(host, database, query) as samples: ...; samples.rows`. The query returns one row of numbers."""

    def __init__(self, host: Host, database: str, query: str) -> None:
        self.rows: list[tuple[float, ...]] = []
        self._host = host
        self._database = database
        self._query = f"{query} \\watch {EVERY_S}\n"

    def __enter__(self) -> Sampled:
        prefix, password = self._host.elevation
        # PostgreSQL reserves connections for its superuser.
        command = prefix + f"runuser -u postgres -- psql --no-psqlrc --tuples-only --no-align --dbname={self._database}"
        self._stdin, self._stdout, _ = self._host.ssh.exec_command(command)
        self._stdin.write(password + self._query)
        self._stdin.flush()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        return self

    def _read(self) -> None:
        for line in self._stdout:
            try:
                self.rows.append(tuple(float(cell) for cell in line.split("|")))
            except ValueError:  # psql's headline of each result, and the empty line below it
                continue

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        # psql ends when it cannot write.
        self._stdout.channel.close()
        self._reader.join(timeout=5)


class Backends(Sampled):
    """`with Backends(host, database) as backends: ...; backends.peak`: the database's server processes."""

    def __init__(self, host: Host, database: str) -> None:
        super().__init__(host, "postgres", f"SELECT {BACKENDS.format(database)}")

    @property
    def peak(self) -> int:
        return int(max((row[0] for row in list(self.rows)), default=0))
