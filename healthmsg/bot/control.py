"""A bot's control surface: HTTP on this machine alone, for those who hold its token.

`GET /health` and `GET /ready` say no more than yes or no, and are answered without the token, for probes. All
else needs `Authorization: Bearer …`. A page in a browser on this machine cannot use it under a name of its
own that leads here (DNS rebinding), since the `Host` has to be this machine's.

| request                                                  | answer                                |
|----------------------------------------------------------|---------------------------------------|
| `GET /health`, `GET /ready`                              | 200, or 503                           |
| `GET /stats`                                             | the figures of `BotStats`             |
| `POST /dialogs` `{dialog, user and/or chat, answers}`    | 201 `{id}`: it has begun; 202 `{id}`: |
|                                                          | its chat has not come to it yet       |
| `GET /dialogs/{id}`: one that is open or held            | `{id, dialog, version, state}`        |
| `DELETE /dialogs/{id}`: end it without a word            | 202 `{ending}`                        |
| `POST /dialogs/{id}/take-back`: one that is held         | 202 `{taking_back}`                   |
| `POST /schedule` the same, with `{at}`, or with          | 201 `{id, dialog, schedule, due}`     |
| `{times, weekdays, exclude, tz}`                         |                                       |
| `GET /schedule/{id}`, `DELETE /schedule/{id}`            | the same; `{cancelled}`               |
| `POST /retry` `{sequence}` or `{all: true}`              | `{retried}`                           |
| `POST /stop` `{when: "now" or "idle"}`                   | 202 `{stopping}`                      |

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

from healthmsg.aio import AsyncOnly, start
from healthmsg.bot.control_token import HOST
from healthmsg.bot.surface import BotSurface, DialogRequest, Scheduled
from healthmsg.codec import encode
from healthmsg.errors import (
    CallError,
    ClientUsageError,
    ConfigurationError,
    DialogError,
    HealthmsgError,
    InvalidInputError,
    JournalError,
)
from healthmsg.ids import ChatAddress
from healthmsg.json_text import JSONObject, NotJSONError, parse_json
from healthmsg.log import log
from healthmsg.validation import is_loopback

LARGEST_BODY: Final = 64 * 1024
"""Bytes."""
# Seconds. Until a body has come,
_READ_WITHIN: Final = 5.0
# until the bot has done what was asked for,
_ANSWER_WITHIN: Final = 30.0
# between two requests of one connection,
_KEEP_ALIVE: Final = 15.0
# and what is running when it closes.
_CLOSE_WITHIN: Final = 1.0
_BEARER: Final = "bearer"
_OF_DIALOG: Final = frozenset({"dialog", "user", "chat", "answers"})
_OF_SCHEDULE: Final = frozenset({"at", "times", "weekdays", "exclude", "tz"})
_SAFE: Final = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}

Answer = Callable[[web.Request], Awaitable[web.Response]]
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@frozen
class _Refusal(Exception):  # noqa: N818 - an answer, and no error of this package's
    status: int
    code: str
    message: str
    headers: Mapping[str, str] = field(factory=dict)


def _encoded(token: str) -> bytes:
    return token.encode()


@define(eq=False)
class Control(AsyncOnly):
    """The control surface of a bot, from entering until leaving it."""

    _bot: BotSurface
    _token: bytes = field(repr=False, converter=_encoded)
    _port: int = 0
    """0: a free one."""
    _runner: web.AppRunner | None = field(default=None, init=False, repr=False)
    _stopping: "asyncio.Task[None] | None" = field(default=None, init=False, repr=False)

    @property
    def port(self) -> int:
        """Where it listens."""
        return self._port

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
            await web.TCPSite(runner, HOST, self._port).start()
        except OSError as error:
            problem = error.strerror or "the system gives no reason"
        else:
            self._runner, self._port = runner, int(runner.addresses[0][1])
            return self
        await runner.cleanup()
        raise ConfigurationError(f"the control surface cannot listen on port {self._port}: {problem}")

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        runner, self._runner = self._runner, None
        stopping, self._stopping = self._stopping, None
        if stopping is not None:
            stopping.cancel()
            await asyncio.wait([stopping])
        if runner is not None:
            await runner.cleanup()

    # --- what holds for all requests

    def _application(self) -> web.Application:
        @web.middleware
        async def guard(request: web.Request, handler: Handler) -> web.StreamResponse:
            return await self._guard(request, handler)

        application = web.Application(middlewares=[guard], client_max_size=LARGEST_BODY)
        routes: tuple[tuple[str, str, Answer], ...] = (
            ("GET", "/health", self._health),
            ("GET", "/ready", self._ready),
            ("GET", "/stats", self._stats),
            ("POST", "/dialogs", self._start_dialog),
            ("GET", "/dialogs/{id}", self._shown_dialog),
            ("DELETE", "/dialogs/{id}", self._end_dialog),
            ("POST", "/dialogs/{id}/take-back", self._take_back_dialog),
            ("POST", "/schedule", self._schedule),
            ("GET", "/schedule/{id}", self._scheduled),
            ("DELETE", "/schedule/{id}", self._unschedule),
            ("POST", "/retry", self._retry),
            ("POST", "/stop", self._stop),
        )
        for method, path, answer in routes:
            application.router.add_route(method, path, answer)
        return application

    async def _guard(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Refuse what is not meant for this, and answer every failure in JSON."""
        try:
            _check_host(request)
            if request.path not in {"/health", "/ready"}:
                self._check_token(request)
            async with asyncio.timeout(_ANSWER_WITHIN):
                return await handler(request)
        except _Refusal as refusal:
            return _error(refusal.status, refusal.code, refusal.message, refusal.headers)
        except web.HTTPException as error:
            reason = {404: "there is no such path", 405: "this path does not take that method"}
            message = reason.get(error.status, error.reason)
            return _error(error.status, error.reason.lower().replace(" ", "_"), message, _allowed(error))
        except TimeoutError:
            return _error(504, "timed_out", "the bot did not do it in time; it may still do it")
        except HealthmsgError as error:
            return _error(*_of_error(error))
        except Exception as error:  # noqa: BLE001 - a bot goes on, whatever a request does
            log(logging.ERROR, "the control surface failed: %(error)s", error=type(error).__name__)
            return _error(500, "internal", "a mistake in this program; its log names it")

    def _check_token(self, request: web.Request) -> None:
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        given = token.strip().encode("utf-8", "surrogateescape")
        # In constant time, so that its letters cannot be found one by one.
        if scheme.lower() != _BEARER or not compare_digest(given, self._token):
            raise _Refusal(
                401,
                "unauthorized",
                "Authorization: Bearer … is missing or wrong",
                {"WWW-Authenticate": "Bearer"},
            )

    # --- what can be asked for

    async def _health(self, _: web.Request) -> web.Response:
        is_alive = self._bot.is_alive
        return _json({"alive": is_alive}, 200 if is_alive else 503)

    async def _ready(self, _: web.Request) -> web.Response:
        is_ready = self._bot.is_ready
        return _json({"ready": is_ready}, 200 if is_ready else 503)

    async def _stats(self, _: web.Request) -> web.Response:
        return _json((await self._bot.stats()).to_dict())

    async def _start_dialog(self, request: web.Request) -> web.Response:
        asked = await _body(request, _OF_DIALOG)
        started = await self._bot.start_dialog(_dialog(asked))
        return _json({"id": started.id}, 201 if started.has_begun else 202)

    async def _shown_dialog(self, request: web.Request) -> web.Response:
        found = await self._bot.dialog(request.match_info["id"])
        if found is None:
            raise _Refusal(
                404,
                "not_found",
                "there is no dialog with this id: it has ended, has not begun yet, or could not begin, which"
                " the log says",
            )
        shown = {"id": found.id, "dialog": found.name, "version": found.version, "state": found.state}
        return _json(shown)

    async def _end_dialog(self, request: web.Request) -> web.Response:
        dialog = request.match_info["id"]
        if not await self._bot.end_dialog(dialog):
            raise _Refusal(404, "not_found", "there is no dialog with this id: it has ended, or never began")
        return _json({"ending": dialog}, 202)

    async def _take_back_dialog(self, request: web.Request) -> web.Response:
        dialog = request.match_info["id"]
        if not await self._bot.take_back_dialog(dialog):
            raise _Refusal(404, "not_found", "no dialog with this id is held or handed over")
        return _json({"taking_back": dialog}, 202)

    async def _schedule(self, request: web.Request) -> web.Response:
        asked = await _body(request, _OF_DIALOG | _OF_SCHEDULE)
        schedule = {name: asked[name] for name in asked if name in _OF_SCHEDULE}
        if ("at" in schedule) == ("times" in schedule):
            raise _Refusal(400, "invalid", "either at is needed, or times")
        return _json(_shown(await self._bot.schedule(_dialog(asked), schedule)), 201)

    async def _scheduled(self, request: web.Request) -> web.Response:
        found = await self._bot.scheduled(request.match_info["id"])
        if found is None:
            raise _Refusal(404, "not_found", "nothing is scheduled under this id")
        return _json(_shown(found))

    async def _unschedule(self, request: web.Request) -> web.Response:
        if not await self._bot.unschedule(request.match_info["id"]):
            raise _Refusal(404, "not_found", "nothing is scheduled under this id")
        return _json({"cancelled": True})

    async def _retry(self, request: web.Request) -> web.Response:
        asked = await _body(request, frozenset({"sequence", "all"}))
        sequence = asked.get("sequence")
        if asked == {"all": True}:
            return _json({"retried": await self._bot.retry(None)})
        if len(asked) != 1 or not isinstance(sequence, int) or isinstance(sequence, bool):
            raise _Refusal(400, "invalid", 'either {"sequence": a number} is needed, or {"all": true}')
        if not (count := await self._bot.retry(sequence)):
            raise _Refusal(404, "not_found", "no event with this sequence is parked")
        return _json({"retried": count})

    async def _stop(self, request: web.Request) -> web.Response:
        when = (await _body(request, frozenset({"when"}))).get("when")
        if when == "now":
            self._bot.stop()
        elif when == "idle":
            if self._stopping is None or self._stopping.done():
                self._stopping = start(self._bot.stop_when_idle(), name="healthmsg bot stopping")
                self._stopping.add_done_callback(_note_failure)
        else:
            raise _Refusal(400, "invalid", "when must be now or idle")
        return _json({"stopping": when}, 202)


def _silent() -> logging.Logger:
    """Return what the server logs into: it would show what it cannot read of a request, as of its token."""
    silent = logging.Logger("healthmsg.control")  # noqa: LOG001 - known to this server alone
    silent.disabled = True
    return silent


def _note_failure(stopping: "asyncio.Task[None]") -> None:
    if not stopping.cancelled() and (error := stopping.exception()) is not None:
        log(logging.ERROR, "the bot could not be stopped when idle: %(error)s", error=type(error).__name__)


def _check_host(request: web.Request) -> None:
    host = request.headers.get("Host", "")
    name = host.rpartition(":")[0] if host.rpartition(":")[2].isdigit() else host
    if not is_loopback(name.strip("[]")) or request.headers.get("Origin") is not None:
        raise _Refusal(421, "wrong_host", "this is for programs on this machine, by a name of this machine's")


async def _body(request: web.Request, known: frozenset[str]) -> JSONObject:
    try:
        async with asyncio.timeout(_READ_WITHIN):
            data = await request.read()
    except TimeoutError:
        raise _Refusal(408, "timed_out", "the body did not come in time") from None
    except web.HTTPRequestEntityTooLarge:
        raise _Refusal(413, "too_large", f"a body may have {LARGEST_BODY:,} bytes") from None
    document: object = None
    with suppress(NotJSONError):
        document = parse_json(data)
    if not isinstance(document, dict):
        raise _Refusal(400, "invalid", "the body must be a JSON object")
    if document.keys() - known:
        raise _Refusal(
            400, "invalid", f"the body can have: {', '.join(sorted(known))}; it has something else"
        )
    return document


def _dialog(asked: JSONObject) -> DialogRequest:
    dialog, user, chat, answers = (asked.get(name) for name in ("dialog", "user", "chat", "answers"))
    if not isinstance(dialog, str) or not dialog:
        raise _Refusal(400, "invalid", "dialog must be the name of a dialog")
    if not isinstance(user, str | None) or not isinstance(chat, str | None) or not (user or chat):
        raise _Refusal(400, "invalid", "user must be the id of a user, or chat the address of a chat")
    if not isinstance(answers, dict | None):
        raise _Refusal(400, "invalid", "answers must be an object")
    address = None if chat is None else ChatAddress.parse(chat)
    return DialogRequest(dialog=dialog, user=user, chat=address, answers=answers or {})


def _shown(found: Scheduled) -> JSONObject:
    return {
        "id": found.id,
        "dialog": found.request.dialog,
        "schedule": found.schedule,
        "due": None if found.due is None else found.due.isoformat(),
    }


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
