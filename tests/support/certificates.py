"""An authority, and certificates of its making for this machine's loopback, as PEM files."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import trustme


@dataclass(frozen=True, slots=True)
class Certificates:
    """PEM files: of an authority that nobody else believes, a server on loopback, a client."""

    authority: Path
    certificate: Path
    key: Path
    client: Path
    client_key: Path


def make_certificates(folder: Path) -> Certificates:
    """An authority, and what it has signed."""
    authority = trustme.CA()
    names = ("authority.pem", "certificate.pem", "key.pem", "client.pem", "client-key.pem")
    made = Certificates(*(folder / name for name in names))
    authority.cert_pem.write_to_path(str(made.authority))
    for identity, pem, key in (
        ("127.0.0.1", made.certificate, made.key),
        ("trainer@example.org", made.client, made.client_key),
    ):
        signed = authority.issue_cert(identity)
        signed.private_key_pem.write_to_path(str(key))
        for part in signed.cert_chain_pems:
            part.write_to_path(str(pem), append=True)
    return made
