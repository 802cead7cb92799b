"""The role that each route asks for. A new route is added here, after thought."""

from __future__ import annotations

from typing import cast

from thalweg_tracker.access.doors import open_doors
from thalweg_tracker.api.application import make_api
from thalweg_tracker.api.guard import needed_role
from thalweg_tracker.engine.contract import Engine

ROLES = """
POST   /api/v1/admin/backups                                                   admin
GET    /api/v1/admin/backups/last                                              admin
DELETE /api/v1/admin/backups/{backup_id}                                       admin
GET    /api/v1/admin/projects/{project}/retention                              admin
PUT    /api/v1/admin/projects/{project}/retention                              admin
GET    /api/v1/audit                                                           admin
GET    /api/v1/health                                                          -
GET    /api/v1/projects                                                        read
DELETE /api/v1/projects/{project}                                              admin
GET    /api/v1/projects/{project}/custom-metrics                               read
DELETE /api/v1/projects/{project}/custom-metrics/{name}                        write
GET    /api/v1/projects/{project}/custom-metrics/{name}                        read
PUT    /api/v1/projects/{project}/custom-metrics/{name}                        write
GET    /api/v1/projects/{project}/deleted                                      read
POST   /api/v1/projects/{project}/expressions/check                            read
GET    /api/v1/projects/{project}/lineage                                      read
GET    /api/v1/projects/{project}/live                                         read
GET    /api/v1/projects/{project}/runs                                         read
POST   /api/v1/projects/{project}/runs/query                                   read
DELETE /api/v1/projects/{project}/runs/{run_id}                                admin
GET    /api/v1/projects/{project}/runs/{run_id}                                read
GET    /api/v1/projects/{project}/runs/{run_id}/checkpoints                    read
POST   /api/v1/projects/{project}/runs/{run_id}/checkpoints/prune              write
GET    /api/v1/projects/{project}/runs/{run_id}/checkpoints/resolve            read
POST   /api/v1/projects/{project}/runs/{run_id}/checkpoints/verify             write
POST   /api/v1/projects/{project}/runs/{run_id}/fork                           write
GET    /api/v1/projects/{project}/runs/{run_id}/lineage                        read
GET    /api/v1/projects/{project}/runs/{run_id}/metrics                        read
POST   /api/v1/projects/{project}/runs/{run_id}/rewind                         write
POST   /api/v1/projects/{project}/runs/{run_id}/undelete                       admin
POST   /api/v1/projects/{project}/runs/{run_id}/uploads                        write
POST   /api/v1/projects/{project}/runs/{run_id}/uploads/abort                  write
POST   /api/v1/projects/{project}/runs/{run_id}/uploads/complete               write
POST   /api/v1/projects/{project}/series                                       read
GET    /api/v1/token                                                           read
GET    /api/v1/tokens                                                          admin
POST   /api/v1/tokens                                                          admin
DELETE /api/v1/tokens/{token_id}                                               admin
"""


def test_each_route_asks_for_its_role() -> None:
    """The whole list, so that no route can come in unseen."""
    api = make_api(cast(Engine, None), None, "1", None, open_doors())
    found = {}
    for path, methods in api.openapi()["paths"].items():
        for method in map(str.upper, methods):
            role = needed_role(method, path)
            found[path, method] = "-" if role is None else role.name.lower()
    lines = [f"{method:<6} {path:<71} {role}" for (path, method), role in sorted(found.items())]
    assert lines == ROLES.strip().splitlines()


def test_what_is_not_known_asks_for_the_most() -> None:
    """A route that nobody thought of is not open."""
    assert needed_role("GET", "/metrics") is not None
    for method in ("GET", "POST", "DELETE"):
        role = needed_role(method, "/api/v1/somewhere")
        assert role is not None
        assert role.name == "ADMIN"
