"""The overlays, built by the real kustomize and checked against the schemas of Kubernetes, and against each other."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from tests.support.deployment import DEPLOY, OVERLAYS, image_environment, kustomize, pods

OLDEST_KUBERNETES = "1.33"
"""The oldest that is checked; what came last, `sleep` before a container stops, is there by default since 1.30."""

each_overlay = pytest.mark.parametrize("overlay", OVERLAYS, ids=lambda path: path.name)


def named(objects: list[dict[str, Any]], kind: str) -> dict[str, dict[str, Any]]:
    return {one["metadata"]["name"]: one for one in objects if one["kind"] == kind}


def selected(objects: list[dict[str, Any]], labels: dict[str, str]) -> list[str]:
    """Names of what runs pods with these labels."""
    return [name for name, pod in pods(objects) if labels.items() <= pod["metadata"]["labels"].items()]


def references(value: Any) -> Iterator[tuple[str, str]]:
    """All secrets and config maps that are named, wherever."""
    if isinstance(value, dict):
        for key, one in value.items():
            if key in ("secretKeyRef", "secretRef"):
                yield "Secret", one["name"]
            elif key in ("configMapKeyRef", "configMapRef"):
                yield "ConfigMap", one["name"]
            elif key == "secret" and "secretName" in one:
                yield "Secret", one["secretName"]
            else:
                yield from references(one)
    elif isinstance(value, list):
        for one in value:
            yield from references(one)


@each_overlay
@pytest.mark.parametrize("version", [OLDEST_KUBERNETES, "1.37"])
def test_kubernetes_takes_it(overlay: Path, version: str) -> None:
    """Every object has the fields that its kind has, and none besides."""
    for one in kustomize(overlay):
        kubernetes_validate.validate(one, version, strict=True)


@each_overlay
def test_the_schemas_would_find_a_mistake(overlay: Path) -> None:
    """The check above can fail."""
    wrong = next(one for one in kustomize(overlay) if one["kind"] in ("Deployment", "StatefulSet"))
    wrong["spec"]["template"]["spec"]["containers"][0]["readinesProbe"] = {}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(wrong, OLDEST_KUBERNETES, strict=True)


@each_overlay
def test_pods_are_as_restricted_as_the_strictest_standard(overlay: Path) -> None:
    """The pod security standard `restricted`, a read-only root besides, and no key to the cluster."""
    found = list(pods(kustomize(overlay)))
    assert found
    for name, pod in found:
        spec = pod["spec"]
        assert spec["automountServiceAccountToken"] is False, name
        assert spec["securityContext"]["runAsNonRoot"] is True, name
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}, name
        assert not {"hostNetwork", "hostPID", "hostIPC"} & spec.keys(), name
        assert all(not {"hostPath"} & volume.keys() for volume in spec.get("volumes", [])), name
        for container in spec["containers"]:
            context = container["securityContext"]
            assert context["allowPrivilegeEscalation"] is False, name
            assert context["capabilities"] == {"drop": ["ALL"]}, name
            assert context["readOnlyRootFilesystem"] is True, name
            assert container["resources"]["requests"].keys() == {"cpu", "memory"}, name
            assert "memory" in container["resources"]["limits"], name


@each_overlay
def test_probes_services_and_budgets_find_what_they_name(overlay: Path) -> None:
    """Ports by the names that containers give them, pods by their labels."""
    objects = kustomize(overlay)
    templates = dict(pods(objects))
    for name, pod in templates.items():
        for container in pod["spec"]["containers"]:
            ports = {port["name"] for port in container.get("ports", [])}
            for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
                if ports:
                    assert container[probe]["httpGet"]["port"] in ports, f"{name}: {probe}"
    for service in named(objects, "Service").values():
        names = selected(objects, service["spec"]["selector"])
        assert names, service["metadata"]["name"]
        (ports_of,) = [
            {port["name"]: port["containerPort"] for port in templates[name]["spec"]["containers"][0]["ports"]}
            for name in names
        ]
        for port in service["spec"]["ports"]:
            assert ports_of[port["targetPort"]] == port["port"], service["metadata"]["name"]
    for budget in named(objects, "PodDisruptionBudget").values():
        assert selected(objects, budget["spec"]["selector"]["matchLabels"]), budget["metadata"]["name"]


@each_overlay
def test_ports_are_those_of_the_image(overlay: Path) -> None:
    """What the image listens on is what Kubernetes calls by the same name."""
    image = image_environment()
    variables = {"grpc": "THALWEG_LISTEN_GRPC", "http": "THALWEG_LISTEN_HTTP", "ops": "THALWEG_OPS"}
    for name, pod in pods(kustomize(overlay)):
        for port in pod["spec"]["containers"][0].get("ports", []):
            assert image[variables[port["name"]]].endswith(f":{port['containerPort']}"), name


@each_overlay
def test_secrets_are_named_and_none_is_there(overlay: Path) -> None:
    """Each that is named is made by a command at the head of the overlay; maps are there."""
    objects = kustomize(overlay)
    told = (overlay / "kustomization.yaml").read_text()
    maps = named(objects, "ConfigMap")
    assert not named(objects, "Secret")
    for kind, name in set(references(objects)):
        if kind == "Secret":
            assert f" {name} " in told, f"{overlay.name} does not say how to make the secret {name}"
        else:
            assert name in maps


def test_the_example_shows_each_secret_of_the_cluster() -> None:
    """With the keys that pods ask for, and placeholders as values."""
    overlay = DEPLOY / "kubernetes" / "overlays" / "cluster"
    example = {
        one["metadata"]["name"]: one["stringData"]
        for one in yaml.safe_load_all((overlay / "secrets.example.yaml").read_text())
    }
    objects = kustomize(overlay)
    assert {name for kind, name in references(objects) if kind == "Secret"} == example.keys()
    for _, pod in pods(objects):
        for variable in pod["spec"]["containers"][0].get("env", []):
            if wanted := variable.get("valueFrom", {}).get("secretKeyRef"):
                assert wanted["key"] in example[wanted["name"]]
    assert all("<" in value for one in example.values() for value in one.values())


@each_overlay
def test_files_of_secrets_are_where_the_server_looks(overlay: Path) -> None:
    """Each THALWEG_*_FILE and TLS file lies in a mounted secret."""
    objects = kustomize(overlay)
    maps = named(objects, "ConfigMap")
    for name, pod in pods(objects):
        (container,) = pod["spec"]["containers"]
        settings = {one["name"]: one.get("value", "") for one in container.get("env", [])}
        for source in container.get("envFrom", []):
            settings |= maps[source["configMapRef"]["name"]]["data"]
        mounts = {mount["mountPath"]: mount["name"] for mount in container["volumeMounts"]}
        volumes = {volume["name"]: volume for volume in pod["spec"]["volumes"]}
        for key, value in settings.items():
            if value.startswith("/run/secrets"):
                folder = str(Path(value).parent)
                assert "secret" in volumes[mounts[folder]], f"{name}: {key}={value}"


@each_overlay
def test_pods_have_time_to_drain(overlay: Path) -> None:
    """Kubernetes kills after the grace period, in which the pause before the signal counts."""
    objects = kustomize(overlay)
    drains = [one["data"]["THALWEG_DRAIN_S"] for one in named(objects, "ConfigMap").values()]
    for name, pod in pods(objects):
        (container,) = pod["spec"]["containers"]
        drains += [one["value"] for one in container.get("env", []) if one["name"] == "THALWEG_DRAIN_S"]
        pause_s = container.get("lifecycle", {}).get("preStop", {}).get("sleep", {}).get("seconds", 0)
        if container["args"][0] != "migrate":
            assert pod["spec"]["terminationGracePeriodSeconds"] > pause_s + int(drains[0]) + 20, name


@each_overlay
def test_what_is_not_allowed_is_barred(overlay: Path) -> None:
    """A policy bars all pods of Thalweg, both ways; others allow; ingress policies cover all that listens."""
    objects = kustomize(overlay)
    policies = named(objects, "NetworkPolicy")
    assert policies["thalweg-nothing"]["spec"]["policyTypes"] == ["Ingress", "Egress"]
    for name, pod in pods(objects):
        labels = policies["thalweg-nothing"]["spec"]["podSelector"]["matchLabels"]
        assert labels.items() <= pod["metadata"]["labels"].items(), f"{name} is not barred"


@each_overlay
def test_ways_out_that_are_examples_can_be_added(overlay: Path, tmp_path: Path) -> None:
    """Named in the kustomization as its head says, they are policies that open ways out alone, of pods there."""
    copied = tmp_path / "kubernetes"
    shutil.copytree(DEPLOY / "kubernetes", copied)
    added = copied / "overlays" / overlay.name
    settings = added / "kustomization.yaml"
    settings.write_text(settings.read_text() + "  - egress.example.yaml\n")
    assert "egress.example.yaml" in (overlay / "kustomization.yaml").read_text()
    before, after = (named(kustomize(one), "NetworkPolicy") for one in (overlay, added))
    objects = kustomize(added)
    assert "thalweg-to-traces" in after.keys() - before.keys()
    assert all(after[name] == before[name] for name in before)
    for name in after.keys() - before.keys():
        kubernetes_validate.validate(after[name], OLDEST_KUBERNETES, strict=True)
        assert after[name]["metadata"]["namespace"] == "thalweg"
        assert after[name]["spec"]["policyTypes"] == ["Egress"]
        assert selected(objects, after[name]["spec"]["podSelector"]["matchLabels"]), name


def test_the_autoscaler_scales_what_is_there_by_a_metric_that_the_rule_makes() -> None:
    """Names of deployments, and of the custom metric."""
    overlay = DEPLOY / "kubernetes" / "overlays" / "cluster"
    objects = kustomize(overlay)
    rule = yaml.safe_load((overlay / "prometheus-adapter.yaml").read_text())["rules"]["custom"][0]
    made = {rule["name"]["as"]}
    for scaler in named(objects, "HorizontalPodAutoscaler").values():
        target = scaler["spec"]["scaleTargetRef"]
        assert target["name"] in named(objects, target["kind"])
        assert "replicas" not in named(objects, target["kind"])[target["name"]]["spec"]
        assert scaler["spec"]["minReplicas"] >= 2
        for metric in scaler["spec"]["metrics"]:
            if metric["type"] == "Pods":
                assert metric["pods"]["metric"]["name"] in made


def test_the_embedded_engine_has_one_pod() -> None:
    """Two processes cannot have one folder, and a volume of one pod holds that too."""
    objects = kustomize(DEPLOY / "kubernetes" / "overlays" / "single")
    (stateful,) = named(objects, "StatefulSet").values()
    assert stateful["spec"]["replicas"] == 1
    assert stateful["spec"]["serviceName"] in named(objects, "Service")
    assert stateful["spec"]["volumeClaimTemplates"][0]["spec"]["accessModes"] == ["ReadWriteOncePod"]
