"""The compose files: what Compose would refuse, what is named and not there, and what a container may do."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.deployment import COMPOSE_FILES, DEPLOY, ROOT, compose, fill_in, image_environment, run, tool

CLUSTER = DEPLOY / "compose.cluster.yaml"
WHOLE_FILES = [path for path in COMPOSE_FILES if path.name != "compose.tls.yaml"]  # that one lies over another

each_file = pytest.mark.parametrize("path", WHOLE_FILES, ids=lambda path: path.name)


def services(path: Path) -> dict[str, dict[str, Any]]:
    return dict(compose(path)["services"])


@pytest.mark.parametrize("path", COMPOSE_FILES, ids=lambda path: path.name)
def test_it_is_what_the_compose_specification_allows(path: Path, tmp_path: Path) -> None:
    """Checked against the schema of the specification, variables put in."""
    filled = tmp_path / path.name
    filled.write_text(yaml.safe_dump(compose(path)))
    checked = run(tool("check-jsonschema"), "--builtin-schema", "vendor.compose-spec", str(filled))
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_the_schema_would_find_a_mistake(tmp_path: Path) -> None:
    """The check above can fail."""
    wrong = tmp_path / "compose.yaml"
    wrong.write_text("services: {a: {image: b, read_onyl: true}}\n")
    assert run(tool("check-jsonschema"), "--builtin-schema", "vendor.compose-spec", str(wrong)).returncode == 1


@each_file
def test_all_that_is_named_is_there(path: Path) -> None:
    """Services that others wait for, volumes, secrets; and files of the repository that are mounted."""
    whole = compose(path)
    for name, service in whole["services"].items():
        waits_for = service.get("depends_on", {})
        assert waits_for.keys() <= whole["services"].keys(), name
        assert set(service.get("secrets", [])) <= whole["secrets"].keys(), name
        for volume in service.get("volumes", []):
            source, target, *_ = volume.split(":")
            if source.startswith("."):
                assert (DEPLOY / source).exists(), f"{name}: {source}"
            else:
                assert source in whole["volumes"], f"{name}: {source}"
            assert target.startswith("/")
    used = {volume.split(":")[0] for one in whole["services"].values() for volume in one.get("volumes", [])}
    assert whole["volumes"].keys() <= used, "a volume that nobody uses"


@each_file
def test_who_is_waited_for_says_when_it_is_ready(path: Path) -> None:
    """`service_healthy` of a service without a health check would never come; that of our image is in the image."""
    whole = services(path)
    for name, service in whole.items():
        for other, how in service.get("depends_on", {}).items():
            if how["condition"] == "service_healthy":
                has_check = "healthcheck" in whole[other] or whole[other]["image"].startswith("thalweg:")
                assert has_check, f"{name} waits for {other}"
                assert not whole[other].get("healthcheck", {}).get("disable"), f"{name} waits for {other}"
            else:
                assert how["condition"] == "service_completed_successfully"
                assert whole[other]["restart"].startswith("on-failure"), f"{other} is to end"


@each_file
def test_no_container_may_do_more_than_it_must(path: Path) -> None:
    """A read-only root, no capabilities, no new ones, and a user that is not root."""
    for name, service in services(path).items():
        assert service["read_only"] is True, name
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert not {"privileged", "cap_add"} & service.keys(), name
        is_ours = service["image"].startswith("thalweg:")  # its user is in the image
        assert is_ours or not service["user"].startswith("0"), name


@each_file
def test_images_are_pinned_by_version(path: Path) -> None:
    """Neither `latest` nor no tag: the same files start the same programs next year."""
    for name, service in services(path).items():
        assert re.fullmatch(r"[a-z/-]+:v?\d+(\.\d+)+", service["image"]), f"{name}: {service['image']}"


@each_file
def test_ports_are_published_on_loopback_unless_asked_otherwise(path: Path) -> None:
    """And they are ports on which the service listens."""
    ours = {
        int(image_environment()[name].rpartition(":")[2]) for name in ("THALWEG_LISTEN_GRPC", "THALWEG_LISTEN_HTTP")
    }
    published = {}
    for name, service in services(path).items():
        for port in service.get("ports", []):
            address, outside, inside = port.split(":")
            assert address == "127.0.0.1", f"{name}: {port}"
            assert outside == inside, f"{name}: a server that tells its port would tell the wrong one"
            published[int(inside)] = name
    assert ours <= published.keys()


def test_what_publishes_on_the_network_is_one_variable() -> None:
    """PUBLISH_ON, for all ports of both files."""
    for path in WHOLE_FILES:
        raw = yaml.safe_load(path.read_text())
        required = dict.fromkeys(["THALWEG_CLICKHOUSE_PASSWORD", "THALWEG_CLICKHOUSE_PASSWORD_SHA256"], "x")
        required |= dict.fromkeys(["CLICKHOUSE_CLUSTER_SECRET", "S3_ACCESS_KEY", "S3_SECRET_KEY"], "x")
        filled = fill_in(raw, {**required, "PUBLISH_ON": "192.0.2.1"})
        ports = [port for service in filled["services"].values() for port in service.get("ports", [])]
        assert ports
        assert all(port.startswith("192.0.2.1:") for port in ports), path.name


@each_file
def test_a_container_has_time_to_drain(path: Path) -> None:
    """Docker kills after 10 s unless told otherwise, which is as long as the drain itself."""
    for name, service in services(path).items():
        if service["image"].startswith("thalweg:"):
            drain_s = int(service.get("environment", {}).get("THALWEG_DRAIN_S", "10"))
            assert int(service["stop_grace_period"].removesuffix("s")) > drain_s + 10, name


def test_the_image_is_built_from_the_file_that_is_there() -> None:
    """The context is the root of the repository."""
    for path in WHOLE_FILES:
        for service in services(path).values():
            if "build" in service:
                context = (DEPLOY / service["build"]["context"]).resolve()
                assert context == ROOT
                assert (context / service["build"]["dockerfile"]).is_file()


def test_the_cluster_is_what_it_says() -> None:
    """2 shards of 2 replicas, 3 Keepers, 2 ingests, 2 APIs; roles start after the migration."""
    whole = services(CLUSTER)
    assert sum(name.startswith("clickhouse-") for name in whole) == 4
    assert sum(name.startswith("keeper-") for name in whole) == 3
    for role in ("ingest", "api"):
        assert whole[role]["deploy"] == {"replicas": 2}
        assert whole[role]["depends_on"]["migrate"] == {"condition": "service_completed_successfully"}
        assert whole[role]["environment"]["THALWEG_STORE"] == whole["migrate"]["environment"]["THALWEG_STORE"]


def test_the_store_names_all_servers_and_the_cluster() -> None:
    """The URL, from which hosts fail over, written over two lines, is one."""
    whole = services(CLUSTER)
    store = whole["ingest"]["environment"]["THALWEG_STORE"]
    hosts = {f"{name}:9000" for name in whole if name.startswith("clickhouse-")}
    assert set(store.rpartition("@")[2].split("/")[0].split(",")) == hosts
    assert store.startswith("clickhouse://thalweg:set@")
    assert store.endswith("/thalweg?cluster=main")


def test_tls_lies_over_the_file_of_one_container() -> None:
    """It names no service and no secret twice with another meaning, and every file it mounts is told to the server."""
    over, under = compose(DEPLOY / "compose.tls.yaml"), compose(DEPLOY / "compose.yaml")
    assert over["services"].keys() <= under["services"].keys()
    service = over["services"]["thalweg"]
    assert set(service["secrets"]) == over["secrets"].keys()
    assert set(service["environment"].values()) == {f"/run/secrets/{name}" for name in service["secrets"]}
