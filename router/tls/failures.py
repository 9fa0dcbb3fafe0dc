"""What a failed TLS handshake with an endpoint means: the status for the client, and Go's words for the log.

Follows gorouter reference 4.3. A table, and nothing else: decides neither about retries nor about marks.
"""

from __future__ import annotations

import ssl
from typing import Final, NamedTuple

NAME_MISMATCH: Final = 503
CLIENT_CERTIFICATE: Final = 496
HANDSHAKE: Final = 525
UNTRUSTED: Final = 526


class TlsFailure(NamedTuple):
    status: int
    """496, 503, 525 or 526."""
    text: str


_MISMATCHES: Final = (62, 63, 64)
"""OpenSSL's codes for a certificate of another host name, e-mail or IP address."""
_EXPIRED: Final = (9, 10)
_UNKNOWN_AUTHORITY: Final = (2, 18, 19, 20, 21)

_REFUSALS_OF_OUR_CERTIFICATE: Final = {
    "SSLV3_ALERT_BAD_CERTIFICATE": "bad certificate",
    "TLSV1_ALERT_UNKNOWN_CA": "unknown certificate authority",
    "TLSV13_ALERT_CERTIFICATE_REQUIRED": "certificate required",
}
_NOT_TLS: Final = ("WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE", "PACKET_LENGTH_TOO_LONG", "HTTP_REQUEST")


def of(error: Exception) -> TlsFailure:
    """Why the handshake failed; ``error`` is what the TLS layer raised or reported."""
    if isinstance(error, ssl.SSLCertVerificationError):
        if error.verify_code in _MISMATCHES:
            return TlsFailure(NAME_MISMATCH, f"x509: {error.verify_message}")
        if error.verify_code in _EXPIRED:
            return TlsFailure(UNTRUSTED, "x509: certificate has expired or is not yet valid")
        if error.verify_code in _UNKNOWN_AUTHORITY:
            return TlsFailure(UNTRUSTED, "x509: certificate signed by unknown authority")
        return TlsFailure(UNTRUSTED, f"x509: {error.verify_message}")
    reason = (error.reason if isinstance(error, ssl.SSLError) else "") or ""
    if reason in _REFUSALS_OF_OUR_CERTIFICATE:
        return TlsFailure(CLIENT_CERTIFICATE, f"remote error: tls: {_REFUSALS_OF_OUR_CERTIFICATE[reason]}")
    if reason in _NOT_TLS:
        return TlsFailure(HANDSHAKE, "tls: first record does not look like a TLS handshake")
    if "_ALERT_" in reason:
        said = reason.partition("_ALERT_")[2].replace("_", " ").lower()
        return TlsFailure(HANDSHAKE, f"remote error: tls: {said}")
    if not reason:
        return TlsFailure(HANDSHAKE, str(error) or type(error).__name__)
    return TlsFailure(HANDSHAKE, f"tls: {reason.replace('_', ' ').lower()}")


def is_refused_certificate(error: Exception | None) -> bool:
    """Whether the peer says that it refuses our certificate, or the lack of one; in TLS 1.3 it says so afterwards."""
    return isinstance(error, ssl.SSLError) and error.reason in _REFUSALS_OF_OUR_CERTIFICATE
