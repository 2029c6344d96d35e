"""Managed by Grunnfjell. gunicorn's TLS, which follows a renewed certificate by itself (gunicorn --config=python:grunnfjell_tls).

gunicorn asks for a context at each connection, and by itself makes a new one each time. Here it is kept until the certificate's
file is another, so that a handshake can be resumed, and a renewal needs no reload: the next connection has it.
"""

import os
import ssl
import threading

# Of TLS 1.2 only what keeps old traffic secret and is authenticated with its cipher; 1.3 has nothing else.
CIPHERS = "ECDHE+AESGCM:ECDHE+CHACHA20"

_lock = threading.Lock()
_kept = {}


def ssl_context(conf, default_ssl_context_factory):
    with _lock:
        try:
            # Key and certificate are renewed together, by a link that turns.
            found = os.stat(conf.certfile)
            mark = (found.st_dev, found.st_ino, found.st_mtime_ns)
            if _kept.get("mark") != mark:
                context = default_ssl_context_factory()
                context.minimum_version = ssl.TLSVersion.TLSv1_2
                context.set_ciphers(CIPHERS)
                _kept.update(mark=mark, context=context)
        except OSError:
            # ssl.SSLError is one, too. What cannot be read serves nobody: the last one that could serves on, until the next look.
            if "context" not in _kept:
                raise
        return _kept["context"]
