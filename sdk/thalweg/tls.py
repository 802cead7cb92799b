"""Which servers to believe, and how to show who one is: PEM files that the environment names.

The environment, since the training process and its sender both need them.
"""

from __future__ import annotations

import os
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from thalweg.errors import SettingError


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """PEM files; None: what the system believes, and no certificate of one's own."""

    ca: Path | None = None
    """Certificates of those who may sign a server's."""
    certificate: Path | None = None
    key: Path | None = None

    @classmethod
    def read(cls, environ: Mapping[str, str]) -> TlsFiles:
        """From THALWEG_CA_FILE, THALWEG_CLIENT_CERT and THALWEG_CLIENT_KEY. Raises SettingError."""
        ca = _path(environ, "THALWEG_CA_FILE")
        certificate, key = _path(environ, "THALWEG_CLIENT_CERT"), _path(environ, "THALWEG_CLIENT_KEY")
        if (certificate is None) != (key is None):
            missing = "THALWEG_CLIENT_KEY" if key is None else "THALWEG_CLIENT_CERT"
            raise SettingError(missing, "", "both THALWEG_CLIENT_CERT and THALWEG_CLIENT_KEY, or neither")
        return cls(ca, certificate, key)

    def contents(self) -> tuple[bytes | None, bytes | None, bytes | None]:
        """What gRPC takes: the CA, the certificate, its key. Raises OSError."""
        ca, certificate, key = (path.read_bytes() if path else None for path in (self.ca, self.certificate, self.key))
        return ca, certificate, key

    def context(self) -> ssl.SSLContext:
        """What HTTPS takes. Raises SettingError where a file is not what it should be."""
        try:
            made = ssl.create_default_context(cafile=self.ca)
            if self.certificate:
                made.load_cert_chain(self.certificate, self.key)
        except (OSError, ssl.SSLError) as error:
            names = ", ".join(str(path) for path in (self.ca, self.certificate, self.key) if path)
            raise SettingError("THALWEG_CA_FILE, THALWEG_CLIENT_CERT", names, f"PEM files ({error})") from error
        return made


def https_context() -> ssl.SSLContext:
    """What HTTPS takes, as the environment says. Raises SettingError."""
    return TlsFiles.read(os.environ).context()


def _path(environ: Mapping[str, str], name: str) -> Path | None:
    text = environ.get(name, "")
    if not text:
        return None
    path = Path(text).expanduser()
    if not os.access(path, os.R_OK):
        raise SettingError(name, text, "a PEM file that can be read")
    return path


def grpc_place(address: str) -> tuple[str, bool]:
    """host:port of a gRPC address, and whether it is to be reached with TLS. Raises SettingError."""
    scheme, _, place = address.rpartition("://")
    if scheme not in ("", "grpcs") or not place:
        raise SettingError("THALWEG_GRPC", address, "host:port or grpcs://host:port")
    return place, scheme == "grpcs"
