"""The way of the records: the gRPC address that senders are told, and whether the ingest answers there."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import urlsplit

from thalweg.cli.checks.addresses import host_of, is_loopback
from thalweg.cli.checks.finding import FAIL, OK, WARN, Finding
from thalweg.errors import SettingError
from thalweg.settings import Settings
from thalweg.wire import policy

CHECK: Final = "grpc"
_METHOD: Final = "/grpc.health.v1.Health/Check"
_SERVING: Final = b"\x08\x01"
"""HealthCheckResponse{status: SERVING}. Two bytes are no reason for grpcio-health-checking on every training host."""


def check_ingest(settings: Settings, health: Mapping[str, Any] | None, override: str | None) -> list[Finding]:
    """Findings. `health`: what the API says, None if it was not reached; `override`: THALWEG_GRPC."""
    address = override or (health or {}).get("grpc")
    if address is None:
        if health is None:
            return []  # nobody told the address: the findings on HTTP say why
        then = "Start the API with --ingest host:port, or set THALWEG_GRPC."
        return [Finding(CHECK, FAIL, "the server names no address that takes records in", then)]
    if not override and is_loopback(host_of(address)) and not is_loopback(urlsplit(settings.url).hostname or ""):
        told = f"the server tells senders {address}, which is each sender's own host"
        return [Finding(CHECK, FAIL, told, "Start the API with --ingest host:port as senders reach it.")]
    return [_look(address)]


def _look(address: str) -> Finding:
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")  # what fails is told by the finding
    import grpc  # late: the training process does not hold it, and other commands do without

    from thalweg.sender.channels import open_blocking_channel

    try:
        opened = open_blocking_channel(address)
    except (SettingError, OSError) as error:
        return Finding(CHECK, FAIL, f"cannot reach {address}: {error}", "Correct that setting.")
    with opened as channel:
        check = channel.unary_unary(_METHOD, request_serializer=bytes, response_deserializer=bytes)
        try:
            answer = check(b"", timeout=policy.DISCOVERY_TIMEOUT_S)
        except grpc.RpcError as error:
            return _failed(address, error.code().name, error.details() or "")
    if answer.startswith(_SERVING):
        return Finding(CHECK, OK, f"the ingest at {address} takes records in")
    return Finding(CHECK, WARN, f"the ingest at {address} is stopping", "Try again: senders do so by themselves.")


def _failed(address: str, code: str, details: str) -> Finding:
    if code == "UNIMPLEMENTED":  # a server from before the health service
        return Finding(CHECK, OK, f"the ingest at {address} answers")
    if "onnection refused" in details:
        told, then = f"nothing listens on {address}", "Start the ingest, or correct its port."
    elif re.search(r"DNS|resol", details):
        told, then = f"no address is known for {address}", "Correct the name, or the DNS of this host."
    elif re.search(r"SSL|TLS|ertificate|andshake", details):
        told, then = f"no TLS with {address}: {details}", "Correct the certificate, or the address."
    elif code == "DEADLINE_EXCEEDED":
        told = f"{address} did not answer within {policy.DISCOVERY_TIMEOUT_S:g} s"
        then = "Look at the firewall and at proxies: the port must carry HTTP/2."
    elif code in ("UNAUTHENTICATED", "PERMISSION_DENIED"):
        told, then = f"the ingest at {address} refuses this token: {details}", "Ask its operator for another."
    else:
        told, then = f"the ingest at {address} fails: {code}: {details}", "See the server's log."
    return Finding(CHECK, FAIL, told, then)
