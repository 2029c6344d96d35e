"""Asks a member for its members on the port of the members: members_request.py URL AUTHORITIES [CERTIFICATE KEY]."""

from __future__ import annotations

import ssl
import sys
import urllib.request


def main(url: str, authorities: str, *identity: str) -> None:
    context = ssl.create_default_context(cafile=authorities)
    if identity:
        context.load_cert_chain(*identity)
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context))
    with opener.open(url, timeout=5) as answer:
        print(answer.read().decode())


if __name__ == "__main__":
    main(*sys.argv[1:])
