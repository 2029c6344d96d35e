"""Managed by Grunnfjell. TLS for gunicorn that loads a renewed certificate (gunicorn --config=python:grunnfjell_tls).

gunicorn asks for a context at each connection, and by default creates a new one each time. This keeps it until the certificate's
file changes: handshakes can be resumed, and the next connection after a renewal uses the new certificate without a reload.
"""

import os
import ssl
import threading

# Of TLS 1.2, only suites with forward secrecy and authenticated encryption; 1.3 has no others.
CIPHERS = "ECDHE+AESGCM:ECDHE+CHACHA20"

_lock = threading.Lock()
_kept = {}


def ssl_context(conf, default_ssl_context_factory):
    with _lock:
        try:
            # Key and certificate are renewed together, by replacing one symbolic link.
            found = os.stat(conf.certfile)
            mark = (found.st_dev, found.st_ino, found.st_mtime_ns)
            if _kept.get("mark") != mark:
                context = default_ssl_context_factory()
                context.minimum_version = ssl.TLSVersion.TLSv1_2
                context.set_ciphers(CIPHERS)
                _kept.update(mark=mark, context=context)
        except OSError:
            # ssl.SSLError is an OSError too. If the files cannot be read, keep the last context; the next connection retries.
            if "context" not in _kept:
                raise
        return _kept["context"]
