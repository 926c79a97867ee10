"""A small server of JSON: on this machine for those who hold its token, and elsewhere for probes alone.

What is not open to all needs `Authorization: Bearer …`. A page in a browser on this machine cannot use it
under a name of its own that leads here (DNS rebinding), since the `Host` has to be this machine's.

An error is `{"error": {"code", "message"}}`, with nothing private in it.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from hmac import compare_digest
from types import TracebackType
from typing import Final, Self

from aiohttp import web
from attrs import define, field, frozen

from healthmsg.aio import AsyncOnly
from healthmsg.codec import encode
from healthmsg.control.token import HOST
from healthmsg.errors import (
    CallError,
    ClientUsageError,
    ConfigurationError,
    DialogError,
    HealthmsgError,
    InvalidInputError,
    JournalError,
)
from healthmsg.json_text import JSONObject, NotJSONError, has_repeated_key, parse_json
from healthmsg.log import log
from healthmsg.validation import is_loopback

LARGEST_BODY: Final = 64 * 1024
"""Bytes."""
# Seconds. Until a body has come,
_READ_WITHIN: Final = 5.0
# until what was asked for is done,
_ANSWER_WITHIN: Final = 30.0
# between two requests of one connection,
_KEEP_ALIVE: Final = 15.0
# and what is running when it closes.
_CLOSE_WITHIN: Final = 1.0
_BEARER: Final = "bearer"
_SAFE: Final = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}


@frozen
class Refusal(Exception):  # noqa: N818 - an answer, and no error of this package's
    """The answer to a request that cannot be right."""

    status: int
    code: str
    message: str
    headers: Mapping[str, str] = field(factory=dict)


@frozen
class Asked:
    """A request that was let in."""

    _request: web.Request = field(repr=False)

    def parameter(self, name: str) -> str:
        """Return what its path has in this place."""
        return self._request.match_info[name]

    def header(self, name: str) -> str | None:
        """Return what a header says, if it is there."""
        return self._request.headers.get(name)

    async def document(self, known: frozenset[str]) -> JSONObject:
        """Return the JSON object that it carries.

        Raises:
            Refusal: it has none, or one with other names in it than these.
        """
        try:
            async with asyncio.timeout(_READ_WITHIN):
                data = await self._request.read()
        except TimeoutError:
            raise Refusal(408, "timed_out", "the body did not come in time") from None
        except web.HTTPRequestEntityTooLarge:
            raise Refusal(413, "too_large", f"a body may have {LARGEST_BODY:,} bytes") from None
        document: object = None
        with suppress(NotJSONError):
            document = parse_json(data)
        if not isinstance(document, dict):
            raise Refusal(400, "invalid", "the body must be a JSON object")
        if has_repeated_key(data):
            raise Refusal(400, "invalid", "the body has a name twice")
        if document.keys() - known:
            raise Refusal(
                400, "invalid", f"the body can have: {', '.join(sorted(known))}; it has something else"
            )
        return document


@frozen
class Answer:
    """What a request is answered with."""

    document: JSONObject
    status: int = 200


Handle = Callable[[Asked], Awaitable[Answer]]


@frozen
class Route:
    """Something that can be asked for."""

    method: str
    path: str
    handle: Handle
    is_open: bool = False
    """Whether it needs no token. Such a one says no more than yes or no."""


def probe(path: str, name: str, is_so: Callable[[], bool]) -> Route:
    """Return a route for probes: 200 while something is so, and else 503."""

    async def handle(_: Asked) -> Answer:
        found = is_so()
        return Answer({name: found}, 200 if found else 503)

    return Route("GET", path, handle, is_open=True)


def _encoded(token: str | None) -> bytes | None:
    return None if token is None else token.encode()


@define(eq=False)
class ControlServer(AsyncOnly):
    """Serves routes from entering until leaving it."""

    _routes: tuple[Route, ...] = field(repr=False)
    _token: bytes | None = field(repr=False, converter=_encoded)
    """`None`: without one, open routes alone can be served."""
    _port: int = 0
    """0: a free one."""
    _host: str = HOST
    """Where it listens. Elsewhere than on this machine, open routes alone can be served."""
    _runner: web.AppRunner | None = field(default=None, init=False, repr=False)

    def __attrs_post_init__(self) -> None:
        closed = [route.path for route in self._routes if not route.is_open]
        if closed and (self._token is None or not is_loopback(self._host)):
            raise ConfigurationError(
                f"{closed[0]} is served on this machine alone, to those who hold a token: it cannot be served"
                f" {'without one' if self._token is None else f'on {self._host}'}"
            )

    @property
    def port(self) -> int:
        """Where it listens."""
        return self._port

    @property
    def addresses(self) -> tuple[str, ...]:
        """The addresses on which it listens, while it does."""
        return () if self._runner is None else tuple(address[0] for address in self._runner.addresses)

    async def __aenter__(self) -> Self:
        """Listen.

        Raises:
            ConfigurationError: it cannot listen there.
        """
        runner = web.AppRunner(
            self._application(),
            access_log=None,
            logger=_silent(),
            handle_signals=False,
            keepalive_timeout=_KEEP_ALIVE,
            shutdown_timeout=_CLOSE_WITHIN,
        )
        await runner.setup()
        try:
            await web.TCPSite(runner, self._host, self._port).start()
        except OSError as error:
            problem = error.strerror or "the system gives no reason"
        else:
            self._runner, self._port = runner, int(runner.addresses[0][1])
            return self
        await runner.cleanup()
        raise ConfigurationError(f"cannot listen on port {self._port} of {self._host}: {problem}")

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        runner, self._runner = self._runner, None
        if runner is not None:
            await runner.cleanup()

    def _application(self) -> web.Application:
        @web.middleware
        async def guard(
            request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
        ) -> web.StreamResponse:
            return await self._guard(request, handler)

        application = web.Application(middlewares=[guard], client_max_size=LARGEST_BODY)
        for route in self._routes:
            application.router.add_route(route.method, route.path, _handler(route))
        return application

    async def _guard(
        self, request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        """Refuse what is not meant for this, and answer every failure in JSON."""
        try:
            self._check_host(request)
            self._check_token(request)
            async with asyncio.timeout(_ANSWER_WITHIN):
                return await handler(request)
        except Refusal as refusal:
            return _error(refusal.status, refusal.code, refusal.message, refusal.headers)
        except web.HTTPException as error:
            reason = {404: "there is no such path", 405: "this path does not take that method"}
            message = reason.get(error.status, error.reason)
            return _error(error.status, error.reason.lower().replace(" ", "_"), message, _allowed(error))
        except TimeoutError:
            return _error(504, "timed_out", "it was not done in time; it may still be")
        except HealthmsgError as error:
            return _error(*_of_error(error))
        except Exception as error:  # noqa: BLE001 - the process goes on, whatever a request does
            log(logging.ERROR, "the control surface failed: %(error)s", error=type(error).__name__)
            return _error(500, "internal", "a mistake in this program; its log names it")

    def _check_host(self, request: web.Request) -> None:
        host = request.headers.get("Host", "")
        name = host.rpartition(":")[0] if host.rpartition(":")[2].isdigit() else host
        # Probes come from other machines by whatever name leads here, and learn yes or no.
        is_ours = is_loopback(name.strip("[]")) or not is_loopback(self._host)
        if not is_ours or request.headers.get("Origin") is not None:
            raise Refusal(
                421, "wrong_host", "this is for programs on this machine, by a name of this machine's"
            )

    def _check_token(self, request: web.Request) -> None:
        if self._token is None or any(route.is_open and request.path == route.path for route in self._routes):
            return
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        given = token.strip().encode("utf-8", "surrogateescape")
        # In constant time, so that its letters cannot be found one by one.
        if scheme.lower() != _BEARER or not compare_digest(given, self._token):
            raise Refusal(
                401,
                "unauthorized",
                "Authorization: Bearer … is missing or wrong",
                {"WWW-Authenticate": "Bearer"},
            )


def _handler(route: Route) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
    async def handle(request: web.Request) -> web.StreamResponse:
        answer = await route.handle(Asked(request))
        return _json(answer.document, answer.status)

    return handle


def _silent() -> logging.Logger:
    """Return what the server logs into: it would show what it cannot read of a request, as of its token."""
    silent = logging.Logger("healthmsg.control")  # noqa: LOG001 - known to this server alone
    silent.disabled = True
    return silent


def _of_error(error: HealthmsgError) -> tuple[int, str, str]:
    if isinstance(error, InvalidInputError):
        return 400, "invalid", str(error)
    if isinstance(error, ConfigurationError | ClientUsageError | DialogError):
        return 409, "not_possible", str(error)
    if isinstance(error, JournalError):
        return 503, "store_failed", str(error)
    if isinstance(error, CallError):
        return 502, "service_failed", error.problem
    return 500, "failed", type(error).__name__


def _allowed(error: web.HTTPException) -> Mapping[str, str]:
    return {"Allow": error.headers["Allow"]} if "Allow" in error.headers else {}


def _error(status: int, code: str, message: str, headers: Mapping[str, str] | None = None) -> web.Response:
    return _json({"error": {"code": code, "message": message}}, status, headers)


def _json(document: JSONObject, status: int = 200, headers: Mapping[str, str] | None = None) -> web.Response:
    return web.Response(
        body=encode(document),
        status=status,
        content_type="application/json",
        headers={**_SAFE, **(headers or {})},
    )
