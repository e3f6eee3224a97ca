"""A server's TLS certificate and key, checked when the daemon starts and not when the first client comes."""

from __future__ import annotations

import ssl
import stat
from pathlib import Path
from typing import NoReturn

from hwdash.core.errors import UsageError

_DATES = {10: "has expired", 9: "is not valid yet"}
"""OpenSSL's X509_V_ERR_CERT_HAS_EXPIRED and X509_V_ERR_CERT_NOT_YET_VALID."""


class _Encrypted(Exception):
    """The key asks for a passphrase."""


def server_tls(certificate: str | None, key: str | None) -> ssl.SSLContext | None:
    """TLS 1.2 or newer with the PEM files *certificate* (with its chain) and *key*; None where neither is given.

    Raises `UsageError` when only one is given, a file cannot be read or is not what it should be, the two do not belong together,
    the key is encrypted, or the certificate is not valid today.
    """
    if certificate is None and key is None:
        return None
    if certificate is None or key is None:
        missing = "certificate" if certificate is None else "key"
        raise UsageError(f"TLS needs both a certificate and its key: http.{missing} is missing", param=missing)
    for name, path in (("certificate", certificate), ("key", key)):
        try:
            Path(path).read_bytes()
        except (OSError, ValueError) as error:
            words = error.strerror if isinstance(error, OSError) else str(error)
            raise UsageError(f"http.{name}: {path} cannot be read: {words}", param=name) from None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    try:
        context.load_cert_chain(certificate, key, password=_no_passphrase)
    except _Encrypted:
        raise UsageError(f"http.key: {key} is encrypted; the daemon needs a key without a passphrase") from None
    except ssl.SSLError as error:
        raise UsageError(_words(error, certificate, key), param="certificate") from None
    _check_dates(context, certificate)
    return context


def key_warning(key: str) -> str:
    """A sentence where the file *key* is open to everybody, else nothing. A group may read it: servers share keys that way."""
    try:
        mode = stat.S_IMODE(Path(key).stat().st_mode)
    except OSError:
        return ""
    if not mode & (stat.S_IROTH | stat.S_IWOTH):
        return ""
    return (
        f"http.key: {key} is open to every user of this machine (mode {mode:04o}): chmod 640, or 600, and get a new key"
    )


def _no_passphrase() -> NoReturn:
    raise _Encrypted


def _words(error: ssl.SSLError, certificate: str, key: str) -> str:
    if error.reason == "KEY_VALUES_MISMATCH":
        return f"http.key: {key} is not the key of the certificate {certificate}"
    return (
        f"http.certificate, http.key: {certificate} and {key} are no PEM certificate and key ({error.reason or error})"
    )


def _check_dates(server: ssl.SSLContext, certificate: str) -> None:
    """Greet the *server* as a client that trusts its certificate alone: OpenSSL then looks at nothing but its dates."""
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.check_hostname = False
    client.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    client.load_verify_locations(certificate)
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = (
        client.wrap_bio(to_client, to_server, server_side=False),
        server.wrap_bio(to_server, to_client, server_side=True),
    )
    for _ in range(3):
        for end in ends:
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                continue
            except ssl.SSLCertVerificationError as error:
                if error.verify_code in _DATES:
                    raise UsageError(
                        f"http.certificate: {certificate} {_DATES[error.verify_code]}; get a new one",
                        param="certificate",
                    ) from None
                return
            except ssl.SSLError:
                return
