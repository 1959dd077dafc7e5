"""Why TLS with the broker does not come about, said so that somebody can mend it.

The MQTT library tells a lost connection and no more: with TLS 1.3 the broker refuses our certificate only after the
handshake. So whoever failed to connect asks here, by a handshake of its own that sends nothing.

Sources: RFC 8446 sections 4.4.2.4 and 6.2 (alerts about certificates).
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from typing import Final

from channeld.client.errors import BrokerNotTrusted, CertificateRefused, TlsFailed

_PATIENCE_S: Final = 2.0
"""How long to wait for an alert after the handshake."""

_TRUST: Final = {
    "certificate has expired": "has expired: it must be renewed",
    "certificate is not valid for": "is for another name than the url says",
    "doesn't match": "is for another name than the url says",
    "": "is signed by nobody whom `tls` trusts: load the authority with ssl.create_default_context(cafile=...)",
}
_REFUSED: Final = {
    "CERTIFICATE_EXPIRED": "our certificate has expired: renew it",
    "UNKNOWN_CA": "it does not trust who signed our certificate",
    "BAD_CERTIFICATE": "our certificate is none that it takes",
    "CERTIFICATE_REVOKED": "our certificate is revoked",
    "CERTIFICATE_UNKNOWN": "it does not know our certificate",
    "CERTIFICATE_REQUIRED": "it asks for a certificate: load ours with load_cert_chain of `tls`",
    "HANDSHAKE_FAILURE": "it may ask for a certificate: load ours with load_cert_chain of `tls`",
}
"""What is meant, by a word of OpenSSL's text; the first that fits."""


async def trouble(host: str, port: int, context: ssl.SSLContext) -> TlsFailed | None:
    """What is wrong with TLS to this broker; None where nothing is, or where it cannot be reached at all."""
    try:
        async with asyncio.timeout(_PATIENCE_S):
            reader, writer = await asyncio.open_connection(host, port, ssl=context, server_hostname=host)
            try:
                await reader.read(1)
            finally:
                writer.close()
                with contextlib.suppress(OSError):
                    await writer.wait_closed()
    except ssl.SSLCertVerificationError as error:
        why = next(what for word, what in _TRUST.items() if word in str(error))
        return BrokerNotTrusted(f"the certificate of the broker at {host}:{port} {why} ({error.verify_message})")
    except ssl.SSLError as error:
        alert = error.reason or str(error)
        for word, what in _REFUSED.items():
            if word in alert:
                return CertificateRefused(f"the broker at {host}:{port} refuses: {what} ({alert})")
        return TlsFailed(f"no TLS with the broker at {host}:{port}: {alert}")
    except (OSError, TimeoutError):
        pass
    return None
