"""The control surface over real sockets: who may use it, what it takes, and what it says."""

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import pytest
from aiohttp import ClientSession
from attrs import define

from healthmsg.bot.control import Control
from healthmsg.bot.store.records import DialogRecord, ParkedEvent
from healthmsg.bot.surface import DialogRequest
from healthmsg.control import server as server_module
from healthmsg.control.server import LARGEST_BODY
from healthmsg.errors import (
    ClientUsageError,
    ConfigurationError,
    ConnectionLostError,
    DialogOpenError,
    InvalidInputError,
    JournalError,
    Outcome,
)
from healthmsg.events import MessageDeleted
from healthmsg.ids import ChatAddress
from tests.bot.fake_bot import SilentBot

TOKEN = "t0ken-canary"
NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)


@define(eq=False)
class Caller:
    bot: SilentBot
    control: Control
    session: ClientSession

    async def call(
        self, method: str, path: str, document: object = None, *, data: bytes | None = None, **headers: str
    ) -> tuple[int, Any]:
        headers = {"Authorization": f"Bearer {TOKEN}", **{k.replace("_", "-"): v for k, v in headers.items()}}
        body = json.dumps(document).encode() if document is not None else data
        async with self._request(method, path, body, headers) as answer:
            assert answer.headers["Cache-Control"] == "no-store"
            return answer.status, await answer.json()

    def _request(self, method: str, path: str, body: bytes | None, headers: dict[str, str]) -> Any:
        url = f"http://127.0.0.1:{self.control.port}{path}"
        return self.session.request(method, url, data=body, headers=headers)


@pytest.fixture
async def caller() -> AsyncIterator[Caller]:
    bot = SilentBot()
    async with Control(bot, TOKEN) as control, ClientSession() as session:
        yield Caller(bot, control, session)


def parked(sequence: int) -> ParkedEvent:
    chat = ChatAddress.parse("conversations/c1")
    event = MessageDeleted(id=f"deleted/{sequence}", message_id="m", chat=chat, received_at=NOON)
    return ParkedEvent(sequence, event, "KeyError", NOON)


def code_of(answer: tuple[int, Any]) -> tuple[int, str]:
    status, document = answer
    assert document["error"]["message"]
    assert TOKEN not in json.dumps(document)
    return status, document["error"]["code"]


# --- who may use it


@pytest.mark.parametrize(
    "header", ["", "Bearer", "Bearer ", "Bearer wrong", f"Basic {TOKEN}", f"Bearer {TOKEN}x", "Bearer é"]
)
async def test_without_the_token_nothing_is_done(caller: Caller, header: str) -> None:
    for method, path in (
        ("GET", "/stats"),
        ("POST", "/stop"),
        ("GET", "/nothing"),
        ("DELETE", "/schedule/1"),
    ):
        answer = await caller.call(method, path, Authorization=header)
        assert code_of(answer) == (401, "unauthorized")
    assert caller.bot.asked == []


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:80", "10.0.0.1", "localhost.evil.example", ""]
)
async def test_a_page_under_a_name_that_leads_here_is_refused(caller: Caller, host: str) -> None:
    for path in ("/health", "/ready", "/stats"):
        assert code_of(await caller.call("GET", path, Host=host)) == (421, "wrong_host")
    assert caller.bot.asked == []


@pytest.mark.parametrize("host", ["localhost", "localhost:1234", "127.0.0.1:80", "[::1]:80", "[::1]"])
async def test_every_name_of_this_machine_s_is_allowed(caller: Caller, host: str) -> None:
    assert (await caller.call("GET", "/stats", Host=host))[0] == 200


async def test_a_request_of_a_web_page_is_refused_even_with_the_token(caller: Caller) -> None:
    assert code_of(await caller.call("GET", "/stats", Origin="http://localhost:8000")) == (421, "wrong_host")


async def test_it_listens_on_this_machine_alone_and_no_longer_than_it_is_entered() -> None:
    async with Control(SilentBot(), TOKEN) as control:
        assert control._server.addresses == ("127.0.0.1",)
        port = control.port
        with pytest.raises(ConfigurationError, match=f"port {port}"):
            await Control(SilentBot(), TOKEN, port).__aenter__()
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection("127.0.0.1", port)


def test_its_repr_has_no_token() -> None:
    assert TOKEN not in repr(Control(SilentBot(), TOKEN))


# --- probes and figures


async def test_probes_need_no_token_and_say_yes_or_no(caller: Caller) -> None:
    for path, name, flag in (("/health", "alive", "alive"), ("/ready", "ready", "ready")):
        assert await caller.call("GET", path, Authorization="") == (200, {name: True})
        setattr(caller.bot, flag, False)
        assert await caller.call("GET", path, Authorization="") == (503, {name: False})


async def test_the_figures_are_those_of_the_bot(caller: Caller) -> None:
    status, stats = await caller.call("GET", "/stats")

    assert status == 200
    assert (stats["state"], stats["handled"]) == ("live", 3)
    assert (stats["started_at"], stats["connected_since"]) == ("2026-03-02T09:00:00+00:00", None)


# --- dialogs and schedules


async def test_a_dialog_is_started_for_a_user_or_in_a_chat_with_answers(caller: Caller) -> None:
    asked = {"dialog": "intake", "user": "u1", "chat": "groupchats/g1", "answers": {"naam": "An"}}
    assert await caller.call("POST", "/dialogs", asked) == (201, {"id": "d1"})
    assert await caller.call("POST", "/dialogs", {"dialog": "intake", "user": "u1"}) == (201, {"id": "d1"})

    assert caller.bot.asked == [
        DialogRequest(
            dialog="intake", user="u1", chat=ChatAddress.parse("groupchats/g1"), answers={"naam": "An"}
        ),
        DialogRequest(dialog="intake", user="u1"),
    ]


@pytest.mark.parametrize(
    "asked",
    [
        {},
        {"dialog": "intake"},
        {"dialog": 1, "user": "u1"},
        {"dialog": "", "user": "u1"},
        {"dialog": "intake", "user": 7},
        {"dialog": "intake", "chat": "nowhere"},
        {"dialog": "intake", "user": "u1", "answers": []},
        {"dialog": "intake", "user": "u1", "command": "form"},
        [],
        "intake",
    ],
)
async def test_a_request_that_cannot_be_right_starts_nothing(caller: Caller, asked: object) -> None:
    assert code_of(await caller.call("POST", "/dialogs", asked)) == (400, "invalid")
    assert caller.bot.asked == []


async def test_a_dialog_is_scheduled_looked_up_and_cancelled(caller: Caller) -> None:
    schedule = {"times": ["08:30"], "weekdays": [1, 2], "exclude": ["2026-12-25"], "tz": "Europe/Amsterdam"}
    shown = {"id": "s1", "dialog": "intake", "schedule": schedule, "due": "2026-03-03T07:00:00+00:00"}

    assert await caller.call("POST", "/schedule", {"dialog": "intake", "user": "u1", **schedule}) == (
        201,
        shown,
    )
    assert caller.bot.asked == [(DialogRequest(dialog="intake", user="u1"), schedule)]
    assert await caller.call("GET", "/schedule/s1") == (200, shown)
    assert await caller.call("DELETE", "/schedule/s1") == (200, {"cancelled": True})
    for method in ("GET", "DELETE"):
        assert code_of(await caller.call(method, "/schedule/s1")) == (404, "not_found")


async def test_a_schedule_can_have_an_id_of_its_own_so_that_it_can_be_repeated(caller: Caller) -> None:
    asked = {"dialog": "intake", "user": "u1", "at": "2026-03-02T09:00+01:00"}
    for replace in ({}, {"replace": True}):
        status, shown = await caller.call("POST", "/schedule", {**asked, "id": "visit-7", **replace})
        assert (status, shown["id"]) == (201, "visit-7")
    request, when = DialogRequest(dialog="intake", user="u1"), {"at": asked["at"]}
    assert caller.bot.asked == [(request, when, "visit-7", False), (request, when, "visit-7", True)]
    for wrong in ({"id": 7}, {"id": "visit-7", "replace": "yes"}):
        assert code_of(await caller.call("POST", "/schedule", {**asked, **wrong})) == (400, "invalid")


@pytest.mark.parametrize(
    "when", [{}, {"at": "2026-03-02T09:00+01:00", "times": ["08:30"]}, {"weekdays": [1]}]
)
async def test_a_schedule_is_one_moment_or_times_of_day(caller: Caller, when: dict[str, object]) -> None:
    answer = await caller.call("POST", "/schedule", {"dialog": "intake", "user": "u1", **when})
    assert code_of(answer) == (400, "invalid")


async def test_a_dialog_whose_chat_has_not_come_to_it_is_accepted_and_looked_at_later(
    caller: Caller,
) -> None:
    caller.bot.begins_at_once = False
    assert await caller.call("POST", "/dialogs", {"dialog": "intake", "user": "u1"}) == (202, {"id": "d1"})
    assert code_of(await caller.call("GET", "/dialogs/d1")) == (404, "not_found")
    caller.bot.records = [DialogRecord("d1", "intake", 2, "conversations/c1", "u1", "open", "{}", NOON, NOON)]
    shown = {"id": "d1", "dialog": "intake", "version": 2, "state": "open"}
    assert await caller.call("GET", "/dialogs/d1") == (200, shown)


async def test_a_dialog_is_ended_or_taken_back_by_its_id(caller: Caller) -> None:
    assert await caller.call("DELETE", "/dialogs/d1") == (202, {"ending": "d1"})
    assert await caller.call("POST", "/dialogs/d1/take-back") == (202, {"taking_back": "d1"})
    assert code_of(await caller.call("DELETE", "/dialogs/d2")) == (404, "not_found")
    assert code_of(await caller.call("POST", "/dialogs/d2/take-back")) == (404, "not_found")
    assert caller.bot.asked[:2] == [("end", "d1"), ("take back", "d1")]


@pytest.mark.parametrize(
    ("method", "path", "document"),
    [
        ("GET", "/stats", None),
        ("POST", "/dialogs", {"dialog": "intake", "user": "u1"}),
        ("DELETE", "/dialogs/d1", None),
        ("POST", "/dialogs/d1/take-back", None),
        ("POST", "/schedule", {"dialog": "intake", "user": "u1", "at": "2026-03-02T09:00+01:00"}),
        ("DELETE", "/schedule/s1", None),
        ("POST", "/retry", {"all": True}),
        ("POST", "/stop", {"when": "now"}),
    ],
)
async def test_a_request_for_another_store_is_refused_and_nothing_is_done(
    caller: Caller, method: str, path: str, document: dict[str, object] | None
) -> None:
    await caller.call("POST", "/schedule", {"dialog": "intake", "user": "u1", "times": ["08:30"]})
    caller.bot.asked.clear()
    for wrong in ("5107f", "", "5107", "5107e, 5107f"):
        answer = await caller.call(method, path, document, Healthmsg_Store=wrong)
        assert code_of(answer) == (409, "other_store")
        assert "5107e" in answer[1]["error"]["message"]
    assert caller.bot.asked == []
    assert [*caller.bot.schedules] == ["s1"]
    assert (await caller.call(method, path, document, Healthmsg_Store="5107e"))[0] < 300


async def test_which_store_it_has_is_not_said_without_the_token(caller: Caller) -> None:
    answer = await caller.call("POST", "/stop", {"when": "now"}, Authorization="", Healthmsg_Store="x")
    assert code_of(answer) == (401, "unauthorized")
    assert "5107e" not in json.dumps(answer[1])
    assert (await caller.call("GET", "/stats"))[1]["store"] == "5107e"


# --- parked events, and the end


async def test_parked_events_are_taken_up_one_by_one_or_all(caller: Caller) -> None:
    caller.bot.parked_events = [parked(number) for number in (4, 7, 9)]

    assert await caller.call("POST", "/retry", {"sequence": 7}) == (200, {"retried": 1})
    assert code_of(await caller.call("POST", "/retry", {"sequence": 7})) == (404, "not_found")
    assert await caller.call("POST", "/retry", {"all": True}) == (200, {"retried": 2})
    assert await caller.call("POST", "/retry", {"all": True}) == (200, {"retried": 0})


@pytest.mark.parametrize(
    "asked", [{}, {"all": False}, {"sequence": True}, {"sequence": "7"}, {"sequence": 7, "all": True}]
)
async def test_a_retry_names_one_event_or_all(caller: Caller, asked: object) -> None:
    assert code_of(await caller.call("POST", "/retry", asked)) == (400, "invalid")


async def test_it_stops_the_bot_now_or_when_idle(caller: Caller) -> None:
    for _ in range(2):
        assert await caller.call("POST", "/stop", {"when": "idle"}) == (202, {"stopping": "idle"})
    assert caller.bot.asked == ["stop when idle"]
    assert not caller.bot.ended.is_set()

    assert await caller.call("POST", "/stop", {"when": "now"}) == (202, {"stopping": "now"})
    assert caller.bot.ended.is_set()
    assert code_of(await caller.call("POST", "/stop", {"when": "later"})) == (400, "invalid")


async def test_closing_ends_the_wait_for_an_idle_bot(caller: Caller) -> None:
    await caller.call("POST", "/stop", {"when": "idle"})
    stopping = caller.control._stopping
    await caller.control.__aexit__(None, None, None)
    assert stopping is not None
    assert stopping.cancelled()


# --- what can go wrong


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (InvalidInputError("there is no dialog intake"), (400, "invalid")),
        (ClientUsageError("it is closed"), (409, "not_possible")),
        (DialogOpenError("intake"), (409, "not_possible")),
        (JournalError("the disk is full"), (503, "store_failed")),
        (ConnectionLostError("GET me", "lost", outcome=Outcome.NOT_SENT), (502, "service_failed")),
        (ValueError("An Visser"), (500, "internal")),
    ],
)
async def test_what_the_bot_fails_with_is_answered_in_json(
    caller: Caller, error: Exception, expected: tuple[int, str]
) -> None:
    caller.bot.failure = error
    answer = await caller.call("POST", "/dialogs", {"dialog": "intake", "user": "u1"})
    assert code_of(answer) == expected
    assert "Visser" not in json.dumps(answer[1])


async def test_other_paths_and_methods_are_refused_in_json(caller: Caller) -> None:
    assert code_of(await caller.call("GET", "/")) == (404, "not_found")
    assert code_of(await caller.call("GET", "/stop")) == (405, "method_not_allowed")


async def test_a_body_that_is_too_large_or_no_json_is_refused(caller: Caller) -> None:
    assert code_of(await caller.call("POST", "/dialogs", data=b"{")) == (400, "invalid")
    twice = b'{"dialog": "intake", "user": "u1", "user": "u2"}'
    assert code_of(await caller.call("POST", "/dialogs", data=twice)) == (400, "invalid")
    large = b'{"dialog": "' + b"x" * LARGEST_BODY + b'"}'
    assert code_of(await caller.call("POST", "/dialogs", data=large)) == (413, "too_large")
    assert caller.bot.asked == []


async def test_a_body_that_does_not_come_is_not_waited_for(
    caller: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server_module, "_READ_WITHIN", 0.05)
    reader, writer = await asyncio.open_connection("127.0.0.1", caller.control.port)
    writer.write(
        f"POST /dialogs HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {TOKEN}\r\n"
        "Content-Length: 50\r\n\r\n{".encode()
    )
    assert b"408" in await asyncio.wait_for(reader.readline(), 5)
    writer.close()


async def test_a_bot_that_does_not_answer_is_not_waited_for_for_ever(
    caller: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def never(_: object) -> str:
        await asyncio.Event().wait()
        return ""

    monkeypatch.setattr(server_module, "_ANSWER_WITHIN", 0.05)
    monkeypatch.setattr(caller.bot, "start_dialog", never, raising=False)
    answer = await caller.call("POST", "/dialogs", {"dialog": "intake", "user": "u1"})
    assert code_of(answer) == (504, "timed_out")


@pytest.mark.parametrize(
    "body",
    [
        b'{"dialog": "intake", "user": "u1", "user": "u2"}',
        b'{"dialog": "intake", "user": "u1", "\\u0075ser": "u2"}',
        b'{"dialog": "intake", "user": "u1", "answers": {"naam": "An", "naam": "Bo"}}',
    ],
)
async def test_a_body_with_one_name_twice_is_refused(caller: Caller, body: bytes) -> None:
    assert code_of(await caller.call("POST", "/dialogs", data=body)) == (400, "invalid")
    assert caller.bot.asked == []


def test_a_request_takes_the_address_of_a_chat_as_text() -> None:
    request = DialogRequest(dialog="intake", chat="conversations/c1")
    assert request.chat == ChatAddress.parse("conversations/c1")
    with pytest.raises(InvalidInputError):
        DialogRequest(dialog="intake", chat="c1")
