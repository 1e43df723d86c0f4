"""The console's shell: files of its own alone, headers on everything, errors that fit who asks."""

import hashlib
import json
import re
from importlib.resources import files
from pathlib import Path

import pytest
from console_page import Page
from fastapi import FastAPI, Request
from fastapi.testclient import TestClient

from aggregator.console import create_app
from aggregator.console.app import ROUTERS
from aggregator.console.middleware import MAX_BODY_BYTES
from aggregator.console.templating import KEEP, environment, static, static_files
from aggregator.store import Database

BROWSER = {"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"}
# As `npm pack` gives them: htmx.org 2.0.11, htmx-ext-sse 2.2.4, @picocss/pico 2.1.1, uplot 1.6.32.
VENDORED = {
    "htmx-2.0.11.LICENSE": "d3d2456f76414f2456104660ebd65aff1c04cd7966b942bdabd63f3cdb316a38",
    "htmx-2.0.11.min.js": "d6fdc75f204e6bdefa99b69bf1e6d4ac69b8a364f77929f45c13476b4000f717",
    "htmx-ext-sse-2.2.4.LICENSE": "a17d224ce9afdc21ec9491b76a2f5d036d19aa641ac4f85ca29c21f9f7e54fdf",
    "htmx-ext-sse-2.2.4.min.js": "98a46496de0c3605fbffdce9167ba427bdd9553184f83f149c261891a92c0136",
    "pico-2.1.1.LICENSE": "afaff063e044233f917b7807dccab022f09dca474f92b642846bee4850655bbf",
    "pico-2.1.1.min.css": "fbc9a63fc9fc9f72d12fd7fc9806e11fa9f77ae4f9cad146b27003a1119ba3db",
    "uplot-1.6.32.LICENSE": "8f989229699b4fe2f1a0432d0e9edc338a8a911e250e2d1b01ecd770a5f5b1bd",
    "uplot-1.6.32.iife.min.js": "19c8d4c6ad88929a79f4ae49d6f7161566dfd0ba3d15cc495e974f787eb78f1f",
    "uplot-1.6.32.min.css": "df630c6a8d6f8eeaff264b50f73ce5b114f646ffd9a0bb74f049b0a00135fa04",
}


def test_what_others_wrote_is_what_was_reviewed_with_its_licence() -> None:
    folder = files("aggregator.console").joinpath("static", "vendor")
    found = {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in folder.iterdir()}
    assert found == VENDORED


def test_no_style_sheet_reaches_elsewhere() -> None:
    for name, file in static_files().items():
        if name.endswith(".css"):
            text = file.content.decode()
            assert "@import" not in text
            assert all(target.startswith("data:image/") for target in re.findall(r"url\([\"']?([^)]+)", text)), name


def test_static_files_are_kept_by_their_hash_and_not_found_under_another(client: TestClient) -> None:
    for name, file in static_files().items():
        answer = client.get(static(name))
        assert answer.content == file.content and answer.headers["Cache-Control"] == KEEP
        assert client.get(f"/static/{'0' * 16}/{name}").status_code == 404
    assert client.get(f"/static/{'0' * 16}/../app.py").status_code == 404
    assert client.get(static("console.js")).headers["content-type"].startswith("text/javascript")


def paths(app: FastAPI) -> list[str]:
    """Every path that the console answers, its parameters filled in."""
    routes = [*app.routes, *(route for router in ROUTERS for route in router.routes)]
    found = [re.sub(r"\{[^}]*\}", "1", str(route.path)) for route in routes if hasattr(route, "path")]
    return [path for path in found if not path.endswith("/stream")]  # never ends: tests/console/test_events.py


def test_every_route_and_every_refusal_carries_the_security_headers(database: Database, client: TestClient) -> None:
    served = paths(create_app(database))
    assert {"/", "/healthz", "/metrics", "/api/v1/rounds/1", "/api/v1/openapi.json", "/static/1/1"} <= set(served)
    for path in [*served, static("htmx.js"), "/nowhere"]:
        for method in ("GET", "POST", "DELETE"):
            for sent in ({}, BROWSER, {"Host": "rebound.example"}):
                headers = client.request(method, path, headers=sent).headers
                policy = dict(part.split(" ", 1) for part in headers["Content-Security-Policy"].split("; "))
                assert policy["default-src"] == "'none'" and policy["frame-ancestors"] == "'none'"
                assert policy["script-src"] == policy["style-src"] == policy["form-action"] == "'self'"
                assert headers["X-Content-Type-Options"] == "nosniff" and headers["X-Frame-Options"] == "DENY"
                assert headers["Cache-Control"] in ("no-store", KEEP)


def test_a_defect_carries_them_too_and_tells_nothing(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Database, "latest_rounds", lambda *_: 1 / 0)
    for sent in ({}, BROWSER):
        answer = client.get("/", headers=sent)
        assert answer.status_code == 500 and "division" not in answer.text
        assert "script-src 'self'" in answer.headers["Content-Security-Policy"]
        assert answer.headers["Cache-Control"] == "no-store"


def test_a_browser_gets_a_page_and_a_program_one_json_line(client: TestClient) -> None:
    page = client.get("/nowhere", headers=BROWSER)
    assert page.status_code == 404 and "Not found" in Page(page.text).text and "GET /nowhere" in page.text
    assert client.get("/nowhere").json() == {"error": "GET /nowhere: Not Found"}
    assert client.get("/api/v1/rounds/7", headers=BROWSER).json() == {"error": "no round 7 is recorded; none is"}
    hostile = Page(client.get("/<script>alert(1)</script>", headers=BROWSER).text)
    assert "alert" not in "".join(hostile.scripts) and "<script>alert(1)</script>" in hostile.text


def test_pages_hold_no_script_or_style_and_load_static_files_alone(client: TestClient) -> None:
    for path in ("/", "/rounds", "/devices", "/releases", "/costs", "/security", "/nowhere"):
        page = Page(client.get(path, headers=BROWSER).text)
        assert not page.tags & {"style", "iframe", "object", "embed", "base"} and not "".join(page.scripts).strip()
        assert not [entry for entry in page.attributes if entry[1].startswith(("on", "hx-on")) or entry[1] == "style"]
        for target in page.values("link", "href") + page.values("script", "src") + page.values("img", "src"):
            assert client.get(target).headers["Cache-Control"] == KEEP
        assert all(re.match(r"/(?!/)|#|$", target) for target in page.values("a", "href"))


def test_htmx_neither_evaluates_nor_writes_styles_nor_asks_elsewhere(client: TestClient) -> None:
    page = Page(client.get("/").text)
    given = dict(zip(page.values("meta", "name"), page.values("meta", "content"), strict=False))
    configured = next(value for value in page.values("meta", "content") if value.startswith("{"))
    assert "htmx-config" in given
    wanted = {"allowEval": False, "includeIndicatorStyles": False, "selfRequestsOnly": True}
    assert wanted.items() <= json.loads(configured).items()


def test_a_keyboard_reaches_the_content_first_and_narrow_screens_are_served(client: TestClient) -> None:
    page = Page(client.get("/").text)
    assert page.values("a", "href")[0] == "#main" and "main" in page.values("main", "id")
    assert "width=device-width, initial-scale=1" in page.values("meta", "content")
    style = client.get(static("console.css")).text
    assert "prefers-color-scheme: dark" in style and ":focus-visible" in style and "max-width: 52rem" in style


@pytest.mark.parametrize(("secagg", "said"), [("demo", "Fewer than 8 devices"), (False, "added up unmasked"), (True, None)])
def test_every_page_says_where_sums_are_not_private(database: Database, secagg: object, said: str | None) -> None:
    client = TestClient(create_app(database, federation={"secagg": secagg}), base_url="http://127.0.0.1:8350")
    for path in ("/", "/rounds", "/devices", "/releases", "/costs", "/security", "/nowhere"):
        text = Page(client.get(path, headers=BROWSER).text).text
        assert ("not private" in text) == (said is not None) and (said or "") in text


def test_every_template_compiles_and_escapes() -> None:
    there = environment()
    assert there.autoescape is True
    for name in there.list_templates():
        there.get_template(name)
        text = Path(str(files("aggregator.console").joinpath("templates", name))).read_text(encoding="utf-8")
        assert "|safe" not in text.replace(" ", "") and "autoescape" not in text, name


def test_no_body_is_larger_than_what_is_taken_announced_or_not(database: Database) -> None:
    app = create_app(database)

    @app.post("/anything")
    async def anything(request: Request) -> int:
        return len(await request.body())

    client = TestClient(app, base_url="http://127.0.0.1:8350")
    part = b"x" * 65536
    assert client.post("/anything", content=b"x" * MAX_BODY_BYTES).json() == MAX_BODY_BYTES
    for content in (b"x" * (MAX_BODY_BYTES + 1), iter([part] * 17)):
        answer = client.post("/anything", content=content)
        assert answer.status_code == 413 and "1048576" in answer.json()["error"]
        assert "script-src 'self'" in answer.headers["Content-Security-Policy"]
