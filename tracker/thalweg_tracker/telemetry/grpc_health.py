"""The standard health service of gRPC (grpc.health.v1): SERVING until the server drains. Lives on one event loop.

Not the servicer of grpcio-health-checking: its watchers stay after the last word, and would hold up the end.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

Response = health_pb2.HealthCheckResponse


class HealthService(health_pb2_grpc.HealthServicer):  # type: ignore[misc]  # generated without types
    """Knows the server as a whole, under the empty name, and the services that it is told."""

    def __init__(self, *services: str) -> None:
        self._services = ("", *services)
        self._draining = asyncio.Event()

    def drain(self) -> None:
        """NOT_SERVING from now on; who watches is told so, and its stream ends."""
        self._draining.set()

    def add_to(self, server: grpc.aio.Server) -> None:
        """Makes a server answer for it."""
        health_pb2_grpc.add_HealthServicer_to_server(self, server)

    def _status(self) -> Any:
        return Response.NOT_SERVING if self._draining.is_set() else Response.SERVING

    async def Check(self, request: health_pb2.HealthCheckRequest, context: Any) -> Any:  # the name is the protocol's
        """The status of a service; NOT_FOUND if there is no such one."""
        if request.service not in self._services:
            await context.abort(grpc.StatusCode.NOT_FOUND, "there is no such service")
        return Response(status=self._status())

    async def Watch(self, request: health_pb2.HealthCheckRequest, context: Any) -> AsyncIterator[Any]:
        """The status now, and when it changes; the stream ends with the server."""
        if request.service not in self._services:
            yield Response(status=Response.SERVICE_UNKNOWN)
        elif not self._draining.is_set():
            yield Response(status=self._status())
        await self._draining.wait()
        if request.service in self._services:
            yield Response(status=self._status())
