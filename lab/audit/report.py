"""What the auditors found, as sentences and as a table."""

from __future__ import annotations

from typing import Any

from lab.reports import columns

LEAST_LYNIS_INDEX = 80
PROTOCOLS = {"tls": "TLS", "postgres": "PostgreSQL, then TLS", None: "no TLS"}
# Part → its auditor, its figure in build/audit.json, the limit.
AUDITORS = {
    "ssh": ("ssh-audit", "ssh_audit_fails", "0"),
    "tls": ("sslyze", "tls_weak", "0"),
    "lynis": ("lynis", "lynis_index", f"at least {LEAST_LYNIS_INDEX}"),
    "secrets": ("site.yml -vvv --check --diff", "secrets_said", "0"),
}


def objections(report: dict[str, Any]) -> list[str]:
    sentences = [
        f"{name}: ssh-audit: {failure}" for name, failures in report.get("ssh_audit", {}).items() for failure in failures
    ]
    sentences += [f"{entry['host']}:{entry['port']}: {weakness}" for entry in report.get("tls", []) for weakness in entry["weak"]]
    for name, host in report.get("lynis", {}).items():
        if host["index"] < LEAST_LYNIS_INDEX:
            sentences.append(f"{name}: lynis's index is {host['index']}, and must be {LEAST_LYNIS_INDEX} at least")
    sentences += [f"Ansible's output holds the secret {name}" for name in report.get("secrets_said", [])]
    if "tls" in report and not any(entry["begins"] for entry in report["tls"]):
        sentences.append("no port of the fleet speaks TLS: nothing was audited")
    return sentences


def table(report: dict[str, Any]) -> str:
    """The ports of each host with their answers, and below them each auditor's figure beside its limit."""
    rows: list[list[object]] = [["host", "ssh-audit fails", "lynis index", "port", "speaks", "weak"]]
    for name in report["hosts"]:
        failures = report.get("ssh_audit", {}).get(name)
        host = [name, "-" if failures is None else len(failures), report.get("lynis", {}).get(name, {}).get("index", "-")]
        ports = [
            [entry["port"], PROTOCOLS[entry["begins"]], len(entry["weak"])]
            for entry in report.get("tls", [])
            if entry["host"] == name
        ]
        for number, port in enumerate(ports or [["-", "", "-"]]):
            rows.append([*(host if number == 0 else ["", "", ""]), *port])
    figures: list[list[object]] = [["auditor", "figure", "", "limit", "seconds"]]
    for part, (auditor, figure, limit) in AUDITORS.items():
        if figure in report:
            value, seconds = report[figure], report.get("seconds", {}).get(part)
            shown = len(value) if isinstance(value, list) else value
            figures.append([auditor, figure, shown, limit, "-" if seconds is None else f"{seconds:.0f}"])
    return "\n".join([*columns(rows, left=(0, 4)), "", *columns(figures, left=(0, 1, 3))])
