"""A bot's control surface: HTTP on this machine alone, for those who hold its token.

`GET /health` and `GET /ready` say no more than yes or no, and are answered without the token, for probes. All
else needs `Authorization: Bearer …`; see `healthmsg.control.server` for what holds for all requests.

A request can say which store it is for: `Healthmsg-Store: …`, with the identity that `GET /stats` and
`healthmsg bot show` name. A bot with another store answers 409, `other_store`, and does nothing; so does one
that stands by, as another process has its store: 409, `stands_by`.

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
| `{times, weekdays, exclude, tz}`; `{id}` makes it safe   | `at` may have passed: it begins then  |
| to repeat, `{id, replace: true}` sets another one        | at once; `due` is null if it has      |
| in its place                                             | happened                              |
| `GET /schedule/{id}`, `DELETE /schedule/{id}`            | the same; `{cancelled}`               |
| `POST /retry` `{sequence}` or `{all: true}`              | `{retried}`                           |
| `POST /stop` `{when: "now" or "idle"}`                   | 202 `{stopping}`                      |

An error is `{"error": {"code", "message"}}`, with nothing private in it.
"""

import asyncio
import logging
from types import TracebackType
from typing import Final, Self

from attrs import define, evolve, field

from healthmsg.aio import AsyncOnly, start
from healthmsg.bot.surface import OTHER_STORE, STORE, BotSurface, DialogRequest, Scheduled
from healthmsg.control.server import Answer, Asked, ControlServer, Handle, Refusal, Route, probe
from healthmsg.ids import ChatAddress
from healthmsg.json_text import JSONObject
from healthmsg.log import class_name, log

_OF_DIALOG: Final = frozenset({"dialog", "user", "chat", "answers"})
_OF_SCHEDULE: Final = frozenset({"at", "times", "weekdays", "exclude", "tz"})
_STANDS_BY: Final = "this bot stands by: another process has its store, and can be asked. Nothing was done"
_OF_SETTING: Final = frozenset({"id", "replace"})


@define(eq=False)
class Control(AsyncOnly):
    """The control surface of a bot, from entering until leaving it."""

    _bot: BotSurface
    _token: str = field(repr=False)
    _port: int = 0
    """0: a free one."""
    _server: ControlServer = field(init=False, repr=False)
    _stopping: "asyncio.Task[None] | None" = field(default=None, init=False, repr=False)

    def __attrs_post_init__(self) -> None:
        self._server = ControlServer(self._routes(), self._token, self._port)

    @property
    def port(self) -> int:
        """Where it listens."""
        return self._server.port

    async def __aenter__(self) -> Self:
        """Listen.

        Raises:
            ConfigurationError: it cannot listen there.
        """
        await self._server.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        stopping, self._stopping = self._stopping, None
        if stopping is not None:
            stopping.cancel()
            await asyncio.wait([stopping])
        await self._server.__aexit__(kind, error, trace)

    def _routes(self) -> tuple[Route, ...]:
        probes = (
            probe("/health", "alive", lambda: self._bot.is_alive),
            probe("/ready", "ready", lambda: self._bot.is_ready),
        )
        closed = (
            Route("GET", "/stats", self._stats),
            Route("POST", "/dialogs", self._start_dialog),
            Route("GET", "/dialogs/{id}", self._shown_dialog),
            Route("DELETE", "/dialogs/{id}", self._end_dialog),
            Route("POST", "/dialogs/{id}/take-back", self._take_back_dialog),
            Route("POST", "/schedule", self._schedule),
            Route("GET", "/schedule/{id}", self._scheduled),
            Route("DELETE", "/schedule/{id}", self._unschedule),
            Route("POST", "/retry", self._retry),
            Route("POST", "/stop", self._stop),
        )
        return (*probes, *(evolve(one, handle=self._of_its_store(one.handle)) for one in closed))

    def _of_its_store(self, handle: Handle) -> Handle:
        """Return what refuses a request that is for another store, and hands on any other one."""

        async def handle_if_its_own(asked: Asked) -> Answer:
            wanted = asked.header(STORE)
            if wanted is not None and wanted != (own := self._bot.store_id):
                message = f"this bot has the store {own}, and the request is for another: nothing was done"
                raise Refusal(409, OTHER_STORE, message)
            if wanted is not None and self._bot.stands_by:
                raise Refusal(409, "stands_by", _STANDS_BY)
            return await handle(asked)

        return handle_if_its_own

    # --- what can be asked for

    async def _stats(self, _: Asked) -> Answer:
        return Answer((await self._bot.stats()).to_dict())

    async def _start_dialog(self, asked: Asked) -> Answer:
        document = await asked.document(_OF_DIALOG)
        started = await self._bot.start_dialog(_dialog(document))
        return Answer({"id": started.id}, 201 if started.has_begun else 202)

    async def _shown_dialog(self, asked: Asked) -> Answer:
        found = await self._bot.dialog(asked.parameter("id"))
        if found is None:
            raise Refusal(
                404,
                "not_found",
                "there is no dialog with this id: it has ended, has not begun yet, or could not begin, which"
                " the log says",
            )
        return Answer({"id": found.id, "dialog": found.name, "version": found.version, "state": found.state})

    async def _end_dialog(self, asked: Asked) -> Answer:
        dialog = asked.parameter("id")
        if not await self._bot.end_dialog(dialog):
            raise Refusal(404, "not_found", "there is no dialog with this id: it has ended, or never began")
        return Answer({"ending": dialog}, 202)

    async def _take_back_dialog(self, asked: Asked) -> Answer:
        dialog = asked.parameter("id")
        if not await self._bot.take_back_dialog(dialog):
            raise Refusal(404, "not_found", "no dialog with this id is held or handed over")
        return Answer({"taking_back": dialog}, 202)

    async def _schedule(self, asked: Asked) -> Answer:
        document = await asked.document(_OF_DIALOG | _OF_SCHEDULE | _OF_SETTING)
        schedule = {name: document[name] for name in document if name in _OF_SCHEDULE}
        if ("at" in schedule) == ("times" in schedule):
            raise Refusal(400, "invalid", "either at is needed, or times")
        schedule_id, replace = document.get("id"), document.get("replace", False)
        if not isinstance(schedule_id, str | None) or not isinstance(replace, bool):
            raise Refusal(400, "invalid", "id must be text, and replace true or false")
        found = await self._bot.schedule(
            _dialog(document), schedule, schedule_id=schedule_id, replace=replace
        )
        return Answer(_shown(found), 201)

    async def _scheduled(self, asked: Asked) -> Answer:
        found = await self._bot.scheduled(asked.parameter("id"))
        if found is None:
            raise Refusal(404, "not_found", "nothing is scheduled under this id")
        return Answer(_shown(found))

    async def _unschedule(self, asked: Asked) -> Answer:
        if not await self._bot.unschedule(asked.parameter("id")):
            raise Refusal(404, "not_found", "nothing is scheduled under this id")
        return Answer({"cancelled": True})

    async def _retry(self, asked: Asked) -> Answer:
        document = await asked.document(frozenset({"sequence", "all"}))
        sequence = document.get("sequence")
        if document == {"all": True}:
            return Answer({"retried": await self._bot.retry(None)})
        if len(document) != 1 or not isinstance(sequence, int) or isinstance(sequence, bool):
            raise Refusal(400, "invalid", 'either {"sequence": a number} is needed, or {"all": true}')
        if not (count := await self._bot.retry(sequence)):
            raise Refusal(404, "not_found", "no event with this sequence is parked")
        return Answer({"retried": count})

    async def _stop(self, asked: Asked) -> Answer:
        when = (await asked.document(frozenset({"when"}))).get("when")
        if when == "now":
            self._bot.stop()
        elif when == "idle":
            if self._stopping is None or self._stopping.done():
                self._stopping = start(self._bot.stop_when_idle(), name="healthmsg bot stopping")
                self._stopping.add_done_callback(_note_failure)
        else:
            raise Refusal(400, "invalid", "when must be now or idle")
        return Answer({"stopping": when}, 202)


def _note_failure(stopping: "asyncio.Task[None]") -> None:
    if not stopping.cancelled() and (error := stopping.exception()) is not None:
        log(logging.ERROR, "the bot could not be stopped when idle: %(error)s", error=class_name(error))


def _dialog(asked: JSONObject) -> DialogRequest:
    dialog, user, chat, answers = (asked.get(name) for name in ("dialog", "user", "chat", "answers"))
    if not isinstance(dialog, str) or not dialog:
        raise Refusal(400, "invalid", "dialog must be the name of a dialog")
    if not isinstance(user, str | None) or not isinstance(chat, str | None) or not (user or chat):
        raise Refusal(400, "invalid", "user must be the id of a user, or chat the address of a chat")
    if not isinstance(answers, dict | None):
        raise Refusal(400, "invalid", "answers must be an object")
    address = None if chat is None else ChatAddress.parse(chat)
    return DialogRequest(dialog=dialog, user=user, chat=address, answers=answers or {})


def _shown(found: Scheduled) -> JSONObject:
    return {
        "id": found.id,
        "dialog": found.request.dialog,
        "schedule": found.schedule,
        "due": None if found.due is None else found.due.isoformat(),
    }
