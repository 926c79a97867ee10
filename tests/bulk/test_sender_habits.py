"""What becomes of lost answers where the service, its clock or this machine has unexpected habits."""

import asyncio
import html
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from healthmsg import Client, DeliveryUnknownError, Outcome, Outgoing, SendMany, SendResult, UploadFile, clock
from healthmsg.sandbox import CutAfter, CutBefore, Fault, Habits, Sandbox
from healthmsg.sandbox.call import cut, json_answer
from healthmsg.sandbox.faults import Execute
from tests.bulk.service_habits import ALONE, cleaned
from tests.bulk.sources import bodies, chats, posts

pytestmark = [
    pytest.mark.looptime(idle_step=0.1, idle_timeout=3),
    pytest.mark.usefixtures("ticking_clock", "nothing_is_left_behind"),
]

TEMPLATE = 'Beste {}, uw "afspraak" & die van uw kind is op 10 maart om {} uur.'


def template(number: int) -> str:
    return TEMPLATE.format(f"patiënt {number}", number)


@pytest.fixture
async def service() -> Callable[[Habits], Sandbox]:
    loop, noon = asyncio.get_running_loop(), datetime.now(UTC)
    started = loop.time()

    def made(habits: Habits) -> Sandbox:
        return Sandbox(habits=habits, now=lambda: noon + timedelta(seconds=loop.time() - started))

    return made


def lose(sandbox: Sandbox, fault: Fault, chat: str, times: int = 1) -> None:
    sandbox.faults.add(kind=fault, method="POST", path_contains=chat, times=times)


async def sent(sandbox: Sandbox, *messages: Outgoing, **options: Any) -> list[SendResult]:
    async with Client(sandbox.issue_token(), environment=sandbox.environment) as client:
        run: SendMany = client.send_many(messages, **options)
        return await run.all()


@pytest.mark.parametrize("habit", sorted(ALONE))
async def test_a_lost_answer_leads_to_one_message_whatever_the_habits(
    habit: str, service: Callable[[Habits], Sandbox]
) -> None:
    async with service(Habits(**ALONE[habit])) as sandbox:
        addresses = chats(sandbox, 12)
        lose(sandbox, CutAfter(), addresses[3])
        lose(sandbox, CutBefore(), addresses[5])
        results = await sent(sandbox, *(Outgoing(to, template(n)) for n, to in enumerate(addresses)))
        assert [result.outcome for result in results] == [Outcome.DELIVERED] * 12
        assert [len(bodies(sandbox, to)) for to in addresses] == [1] * 12


async def test_six_lost_answers_of_a_service_that_rewrites_do_not_become_six_copies(
    service: Callable[[Habits], Sandbox],
) -> None:
    async with service(Habits(rewrite_text=html.escape)) as sandbox:
        chat, other = chats(sandbox, 2)
        lose(sandbox, CutAfter(), chat, times=6)
        _, result = sorted(
            await sent(sandbox, Outgoing(other, "Hallo", key="a"), Outgoing(chat, template(1), key="b")),
            key=lambda one: one.key or "",
        )
        assert bodies(sandbox, chat) == [html.escape(template(1))]
        assert result.outcome is Outcome.UNKNOWN
        assert isinstance(result.error, DeliveryUnknownError)
        assert result.error.similar == (sandbox.messages(chat)[0].id,)
        assert result.error.reason in str(result.error)
        assert template(1) not in str(result.error)


@pytest.mark.slow
@pytest.mark.looptime(False)  # files are read in threads, which no fake clock waits for
async def test_a_file_whose_name_is_cleaned_and_whose_size_changes_goes_once(tmp_path: Path) -> None:
    habits = Habits(rewrite_file_name=cleaned, rewrite_file_size=lambda size: size // 2)
    async with Sandbox(habits=habits) as sandbox:
        known, learnt, unknown = chats(sandbox, 3)
        lose(sandbox, CutAfter(), unknown)
        file = tmp_path / "foto (1).png"
        file.write_bytes(b"1234")
        (result,) = await sent(sandbox, Outgoing(unknown, "", [file]), settle=0.1)
        assert result.outcome is Outcome.UNKNOWN
        assert posts(sandbox) == 1

        async with Client(sandbox.issue_token(), environment=sandbox.environment) as client:
            await client.conversations(known.partition("/")[2]).upload(UploadFile(b"12", "scan (2).png"))
            lose(sandbox, CutAfter(), learnt)
            (result,) = await client.send_many([Outgoing(learnt, "", [file])], settle=0.1).all()
        assert result.outcome is Outcome.DELIVERED
        assert len(sandbox.messages(learnt)) == 1


# --- the machine and the clocks


class Hang:
    """Carries the call out, and answers nothing until it is cut."""

    def __init__(self) -> None:
        self.hanging: list[web.BaseRequest] = []

    async def answer(self, request: web.BaseRequest, execute: Execute) -> web.Response | None:
        await execute()
        self.hanging.append(request)
        await asyncio.sleep(10**6)
        return None


async def test_a_machine_that_sleeps_sends_nothing_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    loop, asleep = asyncio.get_running_loop(), 0.0
    noon, started = datetime.now(UTC), loop.time()
    awake = clock.machine_seconds
    monkeypatch.setattr(clock, "machine_seconds", lambda: awake() + asleep)

    def now() -> datetime:
        return noon + timedelta(seconds=loop.time() - started + asleep)

    async with Sandbox(now=now) as sandbox:
        addresses, hang = chats(sandbox, 20), Hang()
        for to in addresses[4:12]:
            lose(sandbox, hang, to)

        async def sleeps() -> None:
            nonlocal asleep
            while len(hang.hanging) < 8:  # noqa: ASYNC110 - the sandbox has no event for it
                await asyncio.sleep(0.1)
            asleep = 600.0  # the loop's clock stands still, as CLOCK_MONOTONIC does
            for request in hang.hanging:
                cut(request)

        async with asyncio.TaskGroup() as group:
            group.create_task(sleeps())
            results = group.create_task(
                sent(sandbox, *(Outgoing(to, template(n)) for n, to in enumerate(addresses)))
            )
        assert [len(bodies(sandbox, to)) for to in addresses] == [1] * 20
        assert {result.outcome for result in results.result()} == {Outcome.DELIVERED}


@pytest.mark.parametrize("jump", [600.0, -600.0])
async def test_a_service_whose_clock_is_set_while_a_call_hangs_gets_it_once(jump: float) -> None:
    loop, ahead = asyncio.get_running_loop(), 0.0
    noon, started = datetime.now(UTC), loop.time()

    def now() -> datetime:
        return noon + timedelta(seconds=loop.time() - started + ahead)

    class CommitLate:
        async def answer(self, request: web.BaseRequest, execute: Execute) -> web.Response | None:
            nonlocal ahead
            ahead += jump
            cut(request)
            await asyncio.sleep(60)
            await execute()
            return None

    async with Sandbox(now=now) as sandbox:
        chat, other = chats(sandbox, 2)
        lose(sandbox, CommitLate(), chat)
        began = loop.time()
        await sent(sandbox, Outgoing(other, template(1)), Outgoing(chat, template(2)))
        assert bodies(sandbox, chat) == [template(2)]
        assert loop.time() - began < 400


# --- the id in the answer


class AnswerWith:
    """Carries nothing out, and says that it did."""

    def __init__(self, document: object, headers: dict[str, str] | None = None) -> None:
        self._document = document
        self._headers = headers or {}

    async def answer(self, request: web.BaseRequest, execute: Execute) -> web.Response | None:  # noqa: ARG002 - Fault
        return json_answer(self._document, status=200, headers=self._headers)


@pytest.mark.parametrize(
    "fault",
    [
        AnswerWith({"id": ""}),
        AnswerWith({"id": "", "error": "not_saved"}),
        AnswerWith({"id": "7f3c", "error": "not_saved"}),
        AnswerWith({"id": "7f3c", "transactionId": "7f3c"}),
        AnswerWith({"id": "7f3c"}, {"X-Request-Id": "7f3c"}),
    ],
    ids=["empty", "empty, error", "error", "transaction", "request"],
)
@pytest.mark.parametrize("with_journal", [False, True])
async def test_an_id_that_is_no_message_s_does_not_count_as_delivered(
    sandbox: Sandbox, tmp_path: Path, fault: Fault, with_journal: bool
) -> None:
    lost, other = chats(sandbox, 2)
    lose(sandbox, fault, lost)
    options: dict[str, Any] = {"journal": tmp_path / "journal.db", "settle": 0.1} if with_journal else {}
    results = await sent(sandbox, Outgoing(other, "1"), Outgoing(lost, "2"), **options)
    assert [result.outcome for result in results] == [Outcome.DELIVERED] * 2
    assert bodies(sandbox, lost) == ["2"]


@pytest.mark.parametrize("with_journal", [False, True])
async def test_the_id_of_another_message_is_looked_for(
    sandbox: Sandbox, tmp_path: Path, with_journal: bool
) -> None:
    first, lost = chats(sandbox, 2)
    options: dict[str, Any] = {"journal": tmp_path / "journal.db", "settle": 0.1} if with_journal else {}
    async with (
        Client(sandbox.issue_token(), environment=sandbox.environment) as client,
        Client(sandbox.issue_token(), environment=sandbox.environment) as another,
    ):
        (known,) = await client.send_many([Outgoing(first, "1")], **options).all()
        lose(sandbox, AnswerWith({"id": known.message_id}), lost)
        # Another client has only the journal to know the id by.
        later = another if with_journal else client
        (result,) = await later.send_many([Outgoing(lost, "2")], **options).all()
    assert result.outcome is Outcome.DELIVERED
    assert (result.message_id, bodies(sandbox, lost)) == (sandbox.messages(lost)[0].id, ["2"])
