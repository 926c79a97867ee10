"""Why a TLS connection was not trusted, in words that say what to do.

Python 3.13 and later hold certificates to RFC 5280 (`ssl.VERIFY_X509_STRICT`), which those of many an old
authority within a hospital do not keep to: they work before, and fail there.
"""

import re
import ssl
from typing import Final

# Where that is said, and how it is allowed.
_SEE: Final = 'README.md says in "Networks and time-outs" how to allow it, `--no-x509-strict` for commands'
_STRICTER: Final = f"Python 3.13 and later refuse it; {_SEE}"
_UNKNOWN_AUTHORITY: Final = (
    "unknown CA: the certificate comes from no authority that is trusted; `ssl`, or `--ca` for commands,"
    " names a file with others"
)
_WRONG_HOST: Final = "wrong host name: the certificate is for another host"
_NO_KEY_IDENTIFIER: Final = f"no key identifier in the certificate, or in its authority's: {_STRICTER}"
# The numbers are OpenSSL's, in x509_vfy.h.
_REASONS: Final = {
    **dict.fromkeys((2, 18, 19, 20, 21, 27), _UNKNOWN_AUTHORITY),
    9: "not valid yet: the certificate begins to hold later, by this machine's clock",
    10: "expired: the certificate holds no more, by this machine's clock",
    23: "revoked: the certificate's authority has taken it back",
    **dict.fromkeys((62, 64), _WRONG_HOST),
    **dict.fromkeys((85, 86), _NO_KEY_IDENTIFIER),
}
# The other things that the stricter way finds: from a CA without its mark to a version of the format.
_STRICT_ONLY: Final = range(79, 95)
_NO_TLS: Final = "the other side does not speak TLS"
_OTHER_VERSION: Final = "the two sides have no version of TLS in common"
_HANDSHAKES: Final = {
    "WRONG_VERSION_NUMBER": _NO_TLS,
    "RECORD_LAYER_FAILURE": _NO_TLS,
    "HTTP_REQUEST": _NO_TLS,
    "UNSUPPORTED_PROTOCOL": _OTHER_VERSION,
    "TLSV1_ALERT_PROTOCOL_VERSION": _OTHER_VERSION,
}


def why_not_trusted(error: Exception) -> str:
    """Return the reason, without anything that a certificate or the other side says of itself."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return _of_certificate(error.verify_code, error.verify_message)
    reason = getattr(error, "reason", None)
    if not isinstance(reason, str) or not re.fullmatch("[A-Z0-9_]+", reason):
        return "the other side ended it"
    return _HANDSHAKES.get(reason) or reason.replace("_", " ").lower()


def _of_certificate(code: int, message: str) -> str:
    if code in _REASONS:
        return _REASONS[code]
    # One of OpenSSL's own sentences; only where the host's name is wrong, Python puts something into it.
    return f"{message}: {_STRICTER}" if code in _STRICT_ONLY else message
