"""The certificate of a server."""

from __future__ import annotations

import ssl

from kvstore.errors import InvalidRequestError
from kvstore.server.running.settings import Tls


def context_of(tls: Tls) -> ssl.SSLContext:
    """Return what speaks TLS 1.2 and newer with a certificate.

    Raises:
        InvalidRequestError: a file cannot be read, is no PEM, or the two do not belong together.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        # A key with a password would be asked for at the terminal, which a service has not.
        context.load_cert_chain(tls.cert, tls.key, password=lambda: "")
    except (OSError, ValueError) as error:
        files = f"{str(tls.cert)!r:.200} and {str(tls.key)!r:.200}"
        reason = getattr(error, "reason", None) or getattr(error, "strerror", None) or error
        message = f"There is no certificate with its key in {files}: {reason}."
        raise InvalidRequestError(message) from None
    return context
