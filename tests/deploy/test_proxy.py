"""Envoy with the configuration of `deploy/`, the real one, in front of two ingests and two APIs."""

from __future__ import annotations

import json
import subprocess
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.deploy.test_names import KNOWN
from tests.support import training
from tests.support.clickhouse_server import RunningServer
from tests.support.deployment import DEPLOY, run, tool
from tests.support.roles import Role, role
from tests.support.waiting import wait_until
from thalweg.api_client import ApiClient

CONFIGURATION = DEPLOY / "envoy" / "envoy.yaml"
LANDED = {"ingest --ops", "api --ops"} <= KNOWN


def test_envoy_takes_the_configuration() -> None:
    """As it starts, without names that it would have to look up."""
    checked = run(tool("envoy"), "--mode", "validate", "--config-path", str(CONFIGURATION))
    assert checked.returncode == 0, checked.stderr


def test_it_is_the_version_of_the_compose_file() -> None:
    """What is tested here is what is deployed."""
    image = yaml.safe_load((DEPLOY / "compose.cluster.yaml").read_text())["services"]["envoy"]["image"]
    said = run(tool("envoy"), "--version").stdout
    assert f"/{image.rpartition(':v')[2]}/" in said, (image, said)


def address_of(place: str) -> dict[str, Any]:
    host, _, port = place.rpartition("//")[2].rpartition(":")
    return {"socket_address": {"address": host, "port_value": int(port)}}


def on_loopback(ingests: Sequence[Role], apis: Sequence[Role]) -> dict[str, Any]:
    """The configuration with any free ports of loopback, and these processes for the names of services."""
    whole: dict[str, Any] = yaml.safe_load(CONFIGURATION.read_text())
    whole["admin"]["address"] = address_of("127.0.0.1:0")
    for listener in whole["static_resources"]["listeners"]:
        listener["address"] = address_of("127.0.0.1:0")
    for cluster in whole["static_resources"]["clusters"]:
        roles, key = {"ingest": (ingests, "grpc"), "api": (apis, "http")}[cluster["name"]]
        cluster["load_assignment"]["endpoints"] = [
            {
                "lb_endpoints": [
                    {
                        "endpoint": {
                            "address": address_of(one.ready[key]),
                            "health_check_config": {
                                "port_value": address_of(one.ready["ops"])["socket_address"]["port_value"]
                            },
                        }
                    }
                    for one in roles
                ]
            }
        ]
    return whole


@dataclass(frozen=True)
class Proxy:
    """A running Envoy."""

    grpc: str
    url: str
    admin: str

    def ask(self, path: str) -> Any:
        with urllib.request.urlopen(f"http://{self.admin}{path}", timeout=10) as answer:
            return json.load(answer)

    def healthy(self, cluster: str) -> int:
        """Hosts of a cluster that answer their health check."""
        statuses = {one["name"]: one for one in self.ask("/clusters?format=json")["cluster_statuses"]}
        hosts = statuses[cluster].get("host_statuses", [])
        return sum(not host["health_status"].get("failed_active_health_check", False) for host in hosts)


@contextmanager
def proxy(folder: Path, configuration: dict[str, Any]) -> Iterator[Proxy]:
    """Envoy for the time of the block."""
    (folder / "envoy.yaml").write_text(yaml.safe_dump(configuration))
    told = folder / "admin"
    command = [tool("envoy"), "--config-path", str(folder / "envoy.yaml"), "--admin-address-path", str(told)]
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(
            [*command, "--use-dynamic-base-id", "--concurrency", "1"], stdout=log, stderr=subprocess.STDOUT
        )
    try:
        admin = wait_until(lambda: told.exists() and told.read_text())
        listeners = Proxy("", "", admin).ask("/listeners?format=json")["listener_statuses"]
        places = {one["name"]: one["local_address"]["socket_address"] for one in listeners}
        grpc, http = (f"{places[name]['address']}:{places[name]['port_value']}" for name in ("grpc", "http"))
        running = Proxy(grpc, f"http://{http}", admin)
        wait_until(lambda: running.healthy("ingest") == running.healthy("api") == 2)
        yield running
    finally:
        process.terminate()
        process.wait(60)


@pytest.mark.skipif(not LANDED, reason="the roles have no address for probes yet")
def test_an_ingest_and_an_api_go_away_and_nothing_is_lost(clickhouse: RunningServer, tmp_path: Path) -> None:
    """One of each is stopped under a training, which notices nothing; every point is there, exactly once."""
    store = f"clickhouse://default@127.0.0.1:{clickhouse.ports[0]}/proxied"
    migrated = run(tool("thalweg"), "migrate", "--store", store)
    assert migrated.returncode == 0, migrated.stderr
    anywhere = ("--store", store, "--ops=127.0.0.1:0")
    with ExitStack() as stack:

        def start(*arguments: str) -> tuple[Role, ExitStack]:
            own = stack.enter_context(ExitStack())
            return own.enter_context(role(tmp_path / "roles.log", *arguments, *anywhere)), own

        ingests = [start("ingest", "--grpc=127.0.0.1:0") for _ in range(2)]
        apis = [start("api", "--http=127.0.0.1:0", "--ingest=127.0.0.1:1") for _ in range(2)]
        whole = on_loopback([one for one, _ in ingests], [one for one, _ in apis])
        envoy = stack.enter_context(proxy(tmp_path, whole))
        client = ApiClient(envoy.url)
        running = training.start(tmp_path, envoy.url, training.ENDLESS, "proxied", THALWEG_GRPC=envoy.grpc)
        try:
            running.read_steps(1000)
            wait_until(lambda: training.get_run(client, "faults", "proxied").get("last_step"))

            ingests[0][1].close()  # stopped: it drains, and must end well
            apis[0][1].close()
            wait_until(lambda: envoy.healthy("ingest") == envoy.healthy("api") == 1)
            last = running.read_steps(1000)
            wait_until(lambda: training.get_run(client, "faults", "proxied").get("last_step", 0) > last)
        finally:
            last_logged = running.kill()
        training.wait_for_status(client, "proxied", "killed")
        training.assert_complete(client, "proxied", max(last, last_logged))
