"""The page on which the API can be read and tried."""

import re
import sys
from collections.abc import AsyncIterator

import pytest
from aiohttp import ClientSession
from yarl import URL

from healthmsg.sandbox import Sandbox, SlidingWindow
from tests.caller import Caller

ASSETS = {
    "swagger-ui.css": "text/css",
    "swagger-ui-bundle.js": "text/javascript",
    "start.js": "text/javascript",
    "favicon-32x32.png": "image/png",
    "oauth2-redirect.html": "text/html",
}


@pytest.fixture
async def stranger(call: Caller) -> Caller:
    call.token = None
    return call


@pytest.fixture
async def busy() -> AsyncIterator[Sandbox]:
    async with Sandbox(rate_limit=SlidingWindow(limit=1)) as sandbox:
        yield sandbox


@pytest.mark.parametrize("path", ["/docs", "/docs/"])
async def test_the_page_is_public_and_loads_its_own_files_only(stranger: Caller, path: str) -> None:
    answer = await stranger("GET", path)

    assert answer.status == 200
    assert answer.headers["Content-Type"].startswith("text/html")
    loaded = re.findall(r'(?:src|href)="([^"]*)"', answer.body.decode())
    assert set(loaded) == {f"/docs/{asset}" for asset in ASSETS if asset != "oauth2-redirect.html"}


@pytest.mark.parametrize(("asset", "content_type"), ASSETS.items())
async def test_its_files_are_there(stranger: Caller, asset: str, content_type: str) -> None:
    answer = await stranger("GET", f"/docs/{asset}")

    assert answer.status == 200
    assert answer.headers["Content-Type"].partition(";")[0] == content_type
    assert len(answer.body) > 100


@pytest.mark.parametrize(
    "asset",
    [
        "swagger-initializer.js",
        "swagger-editor-bundle.js",
        "LICENSE",
        "..%2F__init__.py",
        "%2E%2E%2f__init__.py",
        "..%5C__init__.py",
        "%2Fetc%2Fpasswd",
        "swagger-ui.css%00",
        "./../../static/swagger-ui.css",
        "SWAGGER-UI.CSS",
        "%FF",
    ],
)
async def test_no_other_file_is_given_out(stranger: Caller, asset: str) -> None:
    answer = await stranger("GET", f"/docs/{asset}")

    assert answer.status in {400, 404}


@pytest.mark.parametrize("path", ["/docs", "/docs/start.js", "/docs/swagger-ui-bundle.js"])
async def test_its_policy_lets_the_browser_load_nothing_from_elsewhere(stranger: Caller, path: str) -> None:
    policy = (await stranger("GET", path)).headers["Content-Security-Policy"]

    assert "default-src 'none'" in policy
    assert "script-src 'self';" in policy
    assert "connect-src 'self';" in policy
    assert "unsafe" not in policy
    assert "http" not in policy


async def test_reading_it_does_not_count_for_the_limit(busy: Sandbox, session: ClientSession) -> None:
    stranger = Caller(busy, session)

    for _ in range(3):
        assert (await stranger("GET", "/docs")).status == 200
        assert (await stranger("GET", "/docs/start.js")).status == 200
        assert (await stranger("GET", "/openapi.yaml")).status == 200

    assert busy.arrivals == []
    assert (await stranger("GET", "me")).status == 200


async def test_what_is_filled_in_cannot_break_out_of_the_page(session: ClientSession) -> None:
    async with Sandbox(client_id='"><script>1</script>', client_secret="<&\"'{x}") as sandbox:
        page = (await Caller(sandbox, session)("GET", "/docs")).body.decode()

    assert 'data-client-id="&quot;&gt;&lt;script&gt;1&lt;/script&gt;"' in page
    assert 'data-client-secret="&lt;&amp;&quot;&#x27;{x}"' in page


@pytest.mark.parametrize("path", ["/docs", "/docs/"])
async def test_without_its_package_the_page_says_what_to_install(
    stranger: Caller, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "swagger_ui", None)

    answer = await stranger("GET", path)

    assert answer.status == 501
    assert answer.headers["Content-Type"].startswith("text/plain")
    assert b'pip install "healthmsg[sandbox]"' in answer.body
    assert (await stranger("GET", "/docs/swagger-ui.css")).status == 404
    assert (await stranger("GET", "/openapi.yaml")).status == 200


async def test_it_runs_nothing_of_that_package(stranger: Caller, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "swagger_ui", raising=False)

    assert (await stranger("GET", "/docs/swagger-ui.css")).status == 200

    assert "swagger_ui" not in sys.modules


async def test_signing_in_can_end_on_its_own_page_by_any_name(stranger: Caller) -> None:
    by_number = URL(stranger.sandbox.url)
    for origin in (by_number, by_number.with_host("localhost")):
        callback = f"{origin.origin()}/docs/oauth2-redirect.html"

        answer = await stranger("GET", authorize_url(origin, callback))

        assert answer.status == 302
        assert answer.headers["Location"].startswith(f"{callback}?code=")


@pytest.mark.parametrize(
    "callback",
    [
        "http://evil.example/docs/oauth2-redirect.html",
        "http://127.0.0.1:1/docs/oauth2-redirect.html",
        "https://{host}/docs/oauth2-redirect.html",
        "http://{host}/docs/",
        "http://{host}/docs/oauth2-redirect.html?x",
        "http://{host}.evil.example/docs/oauth2-redirect.html",
        "/docs/oauth2-redirect.html",
    ],
)
async def test_signing_in_ends_on_no_page_that_only_looks_like_it(stranger: Caller, callback: str) -> None:
    origin = URL(stranger.sandbox.url)

    answer = await stranger("GET", authorize_url(origin, callback.format(host=origin.authority)))

    assert answer.status == 400
    assert "Location" not in answer.headers


def authorize_url(origin: URL, callback: str) -> str:
    query = {
        "response_type": "code",
        "client_id": "healthmsg-sandbox",
        "redirect_uri": callback,
        "scope": "read write",
    }
    return str((origin / "oauth/authorize").with_query(query))
