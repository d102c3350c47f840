"""What the web server says to who has not logged in: the middleware in front of an application that would tell."""

from __future__ import annotations

from typing import Any

import pytest
from starlette.testclient import TestClient

# Airflow takes a second to import: in one worker, and only when it is needed.
pytestmark = pytest.mark.xdist_group("web")


@pytest.fixture(scope="module", params=["", "/airflow"], ids=["at the root", "below a path"])
def client(request: pytest.FixtureRequest) -> TestClient:
    """As Airflow makes it; a `base_url` with a path makes that the root of all paths."""
    from fastapi import FastAPI
    from sampan_web import STATUS, Guard, status_page

    app = FastAPI(root_path=request.param)
    app.mount(STATUS, status_page)
    for prefix in ("/auth", "/execution"):
        app.mount(prefix, FastAPI())

    @app.get("/api/v2/version")
    def version() -> Any:
        return {"version": "3"}

    @app.get("/api/v2/dags")
    def dags() -> Any:
        return {}

    app.add_middleware(Guard)
    return TestClient(app, f"http://testserver{request.param}/")


@pytest.mark.parametrize("ending", ["", "/", "%0A", "/%0A", "%0A/", "%20", "?x=1"])
@pytest.mark.parametrize(
    "page", ["openapi.json", "docs", "redoc", "api/v2/version", "sampan/status", "sampan/status/gates.html"]
)
@pytest.mark.parametrize("app", ["", "/auth", "/execution"])
def test_a_stranger_is_told_nothing_however_the_page_is_spelt(
    app: str, page: str, ending: str, client: TestClient
) -> None:
    """Another spelling of a hidden path that routes take for the same: a line break at the end ends it for both."""
    from sampan_web import HEADERS

    answer = client.get(f"{app}/{page}{ending}".lstrip("/"))
    assert answer.status_code == 404
    assert HEADERS.items() <= dict(answer.headers).items()


def test_other_pages_are_served(client: TestClient) -> None:
    assert client.get("api/v2/dags").status_code == 200
