"""TLS on the way to servers: whom we believe, and who we say we are. No connections here."""

from __future__ import annotations

import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from batchproxy.core.errors import ConfigError


@dataclass(frozen=True, slots=True)
class ClientTls:
    """How connections to servers are secured. A certificate is always checked: one that signs itself is its own CA.

    Args:
        ca_file: PEM certificates of who may vouch for a server; None: those of the system.
        cert_file: our own certificate and what links it to its CA, PEM; None: we show none.
        key_file: the key of that, PEM, without a password.
        server_name: in the server's certificate, and in what it is asked for (SNI, gRPC's authority); None: the
            endpoint's host.
    """

    ca_file: str | None = None
    cert_file: str | None = None
    key_file: str | None = None
    server_name: str | None = None

    def context(self, alpn: Sequence[str]) -> ssl.SSLContext:
        """For connections that agree upon one of these protocols.

        Raises:
            ConfigError: a file cannot be read, or is not what it should be.
        """
        try:
            context = ssl.create_default_context(cafile=self.ca_file)
        except (OSError, ssl.SSLError) as error:
            raise ConfigError(f"tls.ca_file {self.ca_file!r}: {_why(error)}; give PEM certificates") from error
        if self.cert_file is not None:
            try:
                context.load_cert_chain(self.cert_file, self.key_file, password=_no_password)
            except (OSError, ssl.SSLError, ValueError) as error:
                raise ConfigError(
                    f"tls.cert_file {self.cert_file!r}, tls.key_file {self.key_file!r}: {_why(error)}; give a PEM "
                    "certificate and its PEM key without a password"
                ) from error
        context.set_alpn_protocols(list(alpn))
        return context

    def pem(self) -> tuple[bytes | None, bytes | None, bytes | None]:
        """CA certificates, key and certificate as grpcio takes them; it has no access to the system's CAs by itself."""
        if self.ca_file is not None:
            roots = Path(self.ca_file).read_bytes()
        else:
            known = ssl.create_default_context().get_ca_certs(binary_form=True)
            roots = "".join(map(ssl.DER_cert_to_PEM_cert, known)).encode("ascii")
        own = [None if path is None else Path(path).read_bytes() for path in (self.key_file, self.cert_file)]
        return roots or None, own[0], own[1]


def _no_password() -> str:
    raise ValueError("the key is encrypted")


def _why(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error) or type(error).__name__
