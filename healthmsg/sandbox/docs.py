"""The API's description: the OpenAPI file, and a page to read and try it, by Swagger UI.

Swagger UI comes with the extra `sandbox`. The page loads nothing from elsewhere.
"""

from html import escape
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from aiohttp import web

from healthmsg.sandbox.call import Call, not_found
from healthmsg.sandbox.routing import Table

REDIRECT_PAGE: Final = "oauth2-redirect.html"
_ASSETS: Final = {
    "swagger-ui.css": "text/css",
    "swagger-ui-bundle.js": "text/javascript",
    "favicon-32x32.png": "image/png",
    REDIRECT_PAGE: "text/html",
}
_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
# Swagger UI's own page, on which the sign-in ends, is a script within the HTML.
_REDIRECT_POLICY: Final = "default-src 'none'; script-src 'unsafe-inline'; frame-ancestors 'none'"
_PAGE: Final = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>KPN Healthcare Messenger: the API</title>
<link rel="icon" type="image/png" href="/docs/favicon-32x32.png">
<link rel="stylesheet" href="/docs/swagger-ui.css"></head>
<body><div id="swagger-ui" data-client-id="{client_id}" data-client-secret="{client_secret}"></div>
<script src="/docs/swagger-ui-bundle.js"></script><script src="/docs/start.js"></script></body></html>
"""
_START: Final = """"use strict";
const place = document.getElementById("swagger-ui");
const ui = SwaggerUIBundle({
  domNode: place,
  url: "/openapi.yaml",
  validatorUrl: null,
  docExpansion: "list",
  defaultModelsExpandDepth: 0,
  displayRequestDuration: true,
  showExtensions: true,
  oauth2RedirectUrl: new URL("/docs/oauth2-redirect.html", location.origin).href,
});
ui.initOAuth({
  clientId: place.dataset.clientId,
  clientSecret: place.dataset.clientSecret,
  scopes: "read write",
});
"""
_MISSING: Final = """The documentation page needs one more package: pip install "healthmsg[sandbox]"
The description itself is at /openapi.yaml
"""


async def show_description(call: Call) -> web.Response:  # noqa: ARG001 - the same for every caller
    """GET openapi.yaml: this project's reading of the contract, as OpenAPI 3.1."""
    description = files("healthmsg.sandbox").joinpath("openapi.yaml").read_bytes()
    return web.Response(body=description, content_type="application/yaml")


async def show_page(call: Call) -> web.Response:
    """GET docs: the page. The sandbox's made-up credentials are filled in for "Authorize"."""
    if _swagger_ui() is None:
        return web.Response(status=501, text=_MISSING)
    options = call.state.options
    page = _PAGE.format(client_id=escape(options.client_id), client_secret=escape(options.client_secret))
    return web.Response(text=page, content_type="text/html", headers=_headers(_POLICY))


async def show_start(call: Call) -> web.Response:  # noqa: ARG001 - the same for every caller
    """GET docs/start.js: starts Swagger UI. A file of its own, so that the page needs no inline script."""
    return web.Response(text=_START, content_type="text/javascript", headers=_headers(_POLICY))


async def show_asset(call: Call) -> web.Response:
    """GET docs/{asset}: one of the files of Swagger UI that the page needs, and no other."""
    folder, asset = _swagger_ui(), call.ids["asset"]
    if folder is None or asset not in _ASSETS:
        raise not_found("file")
    policy = _REDIRECT_POLICY if asset == REDIRECT_PAGE else _POLICY
    return web.Response(
        body=(folder / asset).read_bytes(), content_type=_ASSETS[asset], headers=_headers(policy)
    )


def is_own_callback(call: Call, redirect_uri: str) -> bool:
    """Return whether the page's sign-in ends there, under the name by which the sandbox was called."""
    request = call.request
    return redirect_uri == f"{request.scheme}://{request.host}/docs/{REDIRECT_PAGE}"


def _swagger_ui() -> Path | None:
    """Return the folder of Swagger UI, without importing its package."""
    package = find_spec("swagger_ui")
    if package is None or not package.submodule_search_locations:
        return None
    return Path(package.submodule_search_locations[0], "static")


def _headers(policy: str) -> dict[str, str]:
    return {
        "Content-Security-Policy": policy,
        "X-Content-Type-Options": "nosniff",
        "Referrer-Policy": "no-referrer",
    }


TABLE: Final[Table[Call]] = (
    ("GET", "openapi.yaml", show_description),
    ("GET", "docs", show_page),
    ("GET", "docs/", show_page),
    ("GET", "docs/start.js", show_start),
    ("GET", "docs/{asset}", show_asset),
)
