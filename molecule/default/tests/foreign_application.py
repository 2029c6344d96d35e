"""A Celery application of a test on a worker host: the application's settings, broker and policies, with a separate queue."""

from __future__ import annotations

from lab.demo.fleet import Host


class ForeignApplication:
    """code: defines `app`, with the tasks and the queue `name`. Its worker runs until `remove`."""

    def __init__(self, host: Host, name: str, code: str, options: str) -> None:
        self.host, self.name = host, name
        self.folder, self.unit = f"/var/tmp/grunnfjell-{name}", f"grunnfjell-{name}"
        self.run_script = f"/opt/{host.application}/current/run"
        host.run(["install", "-d", "-o", "www-data", self.folder])
        host.run(["sh", "-c", f"cat > {self.folder}/{name}.py"], code)
        celery = f"celery --app={name} worker --hostname={name}@%h --concurrency=1 --queues={name} --logfile={self.folder}/log"
        line = f"cd {self.folder}; exec runuser -u www-data -- {self.run_script} {celery} {options}"
        host.run(["systemd-run", "--quiet", f"--unit={self.unit}", "sh", "-c", line])

    def python(self, program: str, *arguments: str, stdin: str = "") -> str:
        user = ["runuser", "-u", "www-data", "--", "env", "-C", self.folder]
        return self.host.run([*user, self.run_script, "python", "-c", program, *arguments], stdin)

    def stop(self) -> None:
        self.host.run(["sh", "-c", f"systemctl stop {self.unit} || true; systemctl reset-failed {self.unit} || true"])

    def remove(self, broker: Host) -> None:
        self.stop()
        vhost = self.host.application
        queues = f"rabbitmqctl -q delete_queue -p {vhost} {self.name}; rabbitmqctl -q purge_queue -p {vhost} dead_letters"
        broker.run(["sh", "-c", queues])
        self.host.run(["rm", "-r", self.folder])
