"""The configuration of ClickHouse and Keeper: well-formed, of one piece with the compose file, rights that are."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

from tests.support.deployment import DEPLOY, ROOT, compose

FILES = sorted((DEPLOY / "clickhouse").rglob("*.xml"))
SERVICES = compose(DEPLOY / "compose.cluster.yaml")["services"]

# Parses each statement of a JSON list on stdin with the real engine: in a process of its own, as one has one engine.
PARSE = """
import json, sys
import chdb
for statement in json.load(sys.stdin):
    chdb.query("EXPLAIN AST " + statement)
"""


def read(name: str) -> ElementTree.Element:
    return ElementTree.parse(DEPLOY / "clickhouse" / name).getroot()


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_it_is_well_formed_and_says_why(path: Path) -> None:
    """One root that ClickHouse merges; a comment for the file, and one more at least."""
    assert ElementTree.parse(path).getroot().tag == "clickhouse"
    assert path.read_text().count("<!--") >= 2


def test_all_files_are_mounted() -> None:
    """Each server has config.d and users.d, each Keeper its file."""
    for name, service in SERVICES.items():
        mounted = {volume.split(":")[0] for volume in service.get("volumes", [])}
        if name.startswith("clickhouse-"):
            assert {"./clickhouse/server/config.d", "./clickhouse/server/users.d"} <= mounted
        if name.startswith("keeper-"):
            assert "./clickhouse/keeper/keeper_config.xml" in mounted


def test_what_comes_from_the_environment_is_set() -> None:
    """A variable that is not set would be an empty secret, or two replicas of one name."""
    for name, service in SERVICES.items():
        folder = {"clickhouse": "server", "keeper": "keeper"}.get(name.split("-")[0])
        if folder is None:
            continue
        wanted = {
            element.attrib["from_env"]
            for path in (DEPLOY / "clickhouse" / folder).rglob("*.xml")
            for element in ElementTree.parse(path).iter()
            if "from_env" in element.attrib
        }
        assert wanted
        assert wanted <= service["environment"].keys(), name


def test_the_cluster_is_that_of_the_compose_file() -> None:
    """Its hosts are services, in the shard and under the name that their environment says; one Keeper is each id."""
    cluster = read("server/config.d/20-cluster.xml")
    main = cluster.find("remote_servers/main")
    assert main is not None
    assert main.find("secret") is not None
    seen = {}
    for number, shard in enumerate(main.findall("shard"), start=1):
        assert shard.findtext("internal_replication") == "true"
        for replica in shard.findall("replica"):
            host = replica.findtext("host", "")
            seen[host] = (str(number), host)
    said = {
        name: (service["environment"]["SHARD"], service["environment"]["REPLICA"])
        for name, service in SERVICES.items()
        if name.startswith("clickhouse-")
    }
    assert seen == said
    keepers = {node.findtext("host") for node in cluster.findall("zookeeper/node")}
    raft = read("keeper/keeper_config.xml").findall("keeper_server/raft_configuration/server")
    assert {(server.findtext("hostname"), server.findtext("id")) for server in raft} == {
        (name, service["environment"]["KEEPER_SERVER_ID"])
        for name, service in SERVICES.items()
        if name.startswith("keeper-")
    }
    assert keepers == {server.findtext("hostname") for server in raft}


def test_the_engine_knows_the_rights() -> None:
    """Each GRANT is parsed by ClickHouse, as the user that the file is about."""
    users = read("server/users.d/10-users.xml").find("users")
    assert users is not None
    granted = [query.text or "" for query in users.findall("thalweg/grants/query")]
    assert granted
    statements = [f"{text} TO thalweg" for text in granted]
    parsed = subprocess.run(
        [sys.executable, "-c", PARSE],
        input=json.dumps(statements),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert parsed.returncode == 0, parsed.stderr


def test_rights_end_at_the_database() -> None:
    """No user manages access; outside of its database ours may only do what has no database."""
    users = read("server/users.d/10-users.xml").find("users")
    assert users is not None
    assert users.find("*/access_management") is None
    for query in users.findall("thalweg/grants/query"):
        text = query.text or ""
        rights, _, where = text.removeprefix("GRANT ").rpartition(" ON ")
        if where == "*.*":
            assert set(rights.split(", ")) <= {"REMOTE", "CLUSTER"}, text
        else:
            assert re.fullmatch(r"thalweg\.\*|system\.\w+", where), text


def test_tables_of_the_system_that_the_code_reads_may_be_read() -> None:
    """A right for each `system.x` in the sources of the server."""
    users = read("server/users.d/10-users.xml").find("users")
    assert users is not None
    granted = {(query.text or "").rpartition(" ON ")[2] for query in users.findall("thalweg/grants/query")}
    named: set[str] = set()
    for path in (ROOT / "tracker").rglob("*"):
        if path.suffix in (".py", ".sql"):
            named |= set(re.findall(r"(?:FROM|JOIN|IN|TABLE)\s+(system\.\w+)", path.read_text()))
    assert named
    assert named <= granted


def test_the_network_reaches_no_user_without_a_password() -> None:
    """`default` has none, and is let in from inside the container alone."""
    users = read("server/users.d/10-users.xml").find("users")
    assert users is not None
    for user in users:
        addresses = {ip.text for ip in user.findall("networks/ip")}
        has_password = any(one.tag.startswith("password") for one in user)
        assert has_password or addresses == {"127.0.0.1", "::1"}, user.tag
        assert user.find("password") is None, "the hash alone may stand there"


def test_servers_are_of_the_version_that_the_tests_run_on() -> None:
    """The embedded engine of the tests and the images are the same ClickHouse, by year and month."""
    pinned = re.search(r"^chdb-core==(\d+\.\d+)", (ROOT / "constraints.txt").read_text(), re.MULTILINE)
    assert pinned is not None
    for service in SERVICES.values():
        if service["image"].startswith("clickhouse/"):
            assert service["image"].rpartition(":")[2].startswith(pinned[1] + "."), service["image"]
