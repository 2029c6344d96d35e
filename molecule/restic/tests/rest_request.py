"""Asks a repository host, and prints the status of the answer: rest_request.py METHOD URL LOGIN AUTHORITIES [CERTIFICATE KEY].

0 stands for a connection that TLS refuses. The path is sent as it is, with its dots.
"""

from __future__ import annotations

import base64
import http.client
import ssl
import sys
import urllib.parse


def main(method: str, url: str, login: str, authorities: str, *identity: str) -> None:
    parts = urllib.parse.urlsplit(url)
    context = ssl.create_default_context(cafile=authorities)
    if identity:
        context.load_cert_chain(*identity)
    connection = http.client.HTTPSConnection(str(parts.hostname), parts.port, context=context, timeout=10)
    basic = base64.b64encode(login.encode()).decode()
    try:
        target = parts.path + (f"?{parts.query}" if parts.query else "")
        connection.request(method, target, headers={"Authorization": f"Basic {basic}"})
        print(connection.getresponse().status)
    except (ssl.SSLError, ConnectionError):
        print(0)


if __name__ == "__main__":
    main(*sys.argv[1:])
