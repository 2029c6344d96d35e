"""sslyze against every TLS port of a host, and which of its findings are weaknesses."""

from __future__ import annotations

import asyncio
import json
import socket
import ssl
import struct
from pathlib import Path
from typing import Any

from lab.audit.tools import tool
from lab.machine import Refusal

# PostgreSQL's message SSLRequest, which asks for TLS; the answer S means yes (documentation of its protocol).
SSL_REQUEST = struct.pack("!ii", 8, 80877103)
OLD = ("ssl_2_0", "ssl_3_0", "tls_1_0", "tls_1_1")
# TLS 1.2: a new key for each session, and encryption that detects changes.
FORWARD_SECRET, AUTHENTICATED = ("TLS_ECDHE_", "TLS_DHE_"), ("_GCM_", "_CHACHA20_POLY1305_", "_CCM")
BROKEN = ("_NULL_", "_anon_", "_EXPORT_", "_RC4_", "_DES_", "_3DES_", "_MD5")
HOLES = {
    "heartbleed": ("is_vulnerable_to_heartbleed", False),
    "openssl_ccs_injection": ("is_vulnerable_to_ccs_injection", False),
    "tls_compression": ("supports_compression", False),
    "session_renegotiation": ("is_vulnerable_to_client_renegotiation_dos", False),
}
PROTOCOLS = ["--sslv2", "--sslv3", "--tlsv1", "--tlsv1_1", "--tlsv1_2", "--tlsv1_3"]
QUESTIONS = [*PROTOCOLS, "--compression", "--heartbleed", "--openssl_ccs", "--robot", "--reneg", "--mozilla_config=disable"]


def weak_suite(name: str) -> bool:
    """Whether a cipher suite of TLS 1.2 is weak.

    >>> [weak_suite(name) for name in ("TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256", "TLS_RSA_WITH_AES_128_GCM_SHA256")]
    [False, True]
    """
    strong = name.startswith(FORWARD_SECRET) and any(part in name for part in AUTHENTICATED)
    return not strong or any(part in name for part in BROKEN)


def weaknesses(scan: dict[str, Any]) -> list[str]:
    """Sentences about the weaknesses that sslyze found, and about each check that it could not make."""
    sentences = []
    for protocol in (*OLD, "tls_1_2", "tls_1_3"):
        attempt = scan[f"{protocol}_cipher_suites"]
        if attempt["status"] != "COMPLETED":
            sentences.append(f"{protocol} could not be checked: {attempt['error_reason']}")
            continue
        accepted = [suite["cipher_suite"]["name"] for suite in attempt["result"]["accepted_cipher_suites"]]
        if protocol in OLD and accepted:
            sentences.append(f"{protocol} is spoken")
        elif protocol == "tls_1_2":
            sentences += [f"{protocol} accepts {name}" for name in accepted if weak_suite(name)]
    for hole, (key, wanted) in HOLES.items():
        attempt = scan[hole]
        if attempt["status"] != "COMPLETED":
            sentences.append(f"{hole} could not be checked: {attempt['error_reason']}")
        elif attempt["result"][key] != wanted:
            sentences.append(f"{hole}: {key} is {attempt['result'][key]}")
    robot = scan["robot"]
    if robot["status"] != "COMPLETED" or not robot["result"]["robot_result"].startswith("NOT_VULNERABLE"):
        sentences.append(f"robot: {(robot['result'] or {}).get('robot_result', robot['error_reason'])}")
    return sentences


def speaks(port: int) -> str | None:
    """How TLS begins on the local `port`: tls, postgres, or not at all."""
    for how in ("postgres", "tls"):
        try:
            with socket.create_connection(("127.0.0.1", port), timeout=5) as plain:
                if how == "postgres":
                    plain.sendall(SSL_REQUEST)
                    if plain.recv(1) == b"S":
                        return how
                    continue
                context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
                context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
                with context.wrap_socket(plain, server_hostname="localhost"):
                    return how
        except ssl.SSLError as error:
            # A refusal in TLS is TLS too: a server that requires a client certificate reports it only here.
            if how == "tls" and "ALERT" in (error.reason or ""):
                return how
        except OSError:
            continue
    return None


async def ask(port: int, how: str, name: str, out: Path, questions: list[str]) -> dict[str, Any]:
    """sslyze's answers about the local `port`, also in the file `out`."""
    out.unlink(missing_ok=True)
    command = [tool("sslyze"), *questions, "--quiet", f"--json_out={out}"]
    command += ["--starttls=postgres"] if how == "postgres" else []
    process = await asyncio.create_subprocess_exec(
        *command, f"127.0.0.1:{port}", stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    output, _ = await process.communicate()
    if not out.exists():
        raise Refusal(f"sslyze gave no answer about {name}: {output.decode()[-500:]}")
    (result,) = json.loads(out.read_text(encoding="utf-8"))["server_scan_results"]
    if result["scan_result"] is None:
        raise Refusal(f"sslyze could not connect to {name}: {result['connectivity_error_trace']}")
    return result["scan_result"]


async def scan(port: int, how: str, name: str, home: Path, identities: list[tuple[Path, Path]]) -> dict[str, Any]:
    """All answers about the local `port`: to a client without a certificate, and what only the fleet's clients get to know."""
    out = home / f"tls-{name.replace(':', '-')}.json"
    answers = await ask(port, how, name, out, QUESTIONS)
    for certificate, key in identities:
        if answers["session_renegotiation"]["error_reason"] != "CLIENT_CERTIFICATE_NEEDED":
            break
        # A client that cannot complete a handshake cannot renegotiate either.
        questions = ["--reneg", "--mozilla_config=disable", f"--cert={certificate}", f"--key={key}"]
        again = await ask(port, how, name, out.with_name(f"{out.stem}-known.json"), questions)
        answers["session_renegotiation"] = again["session_renegotiation"]
    return answers
