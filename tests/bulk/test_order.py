"""The order of messages to one patient, who has several addresses."""

import asyncio
from collections.abc import Sequence
from itertools import permutations
from pathlib import Path
from typing import Any

import pytest
from attrs import frozen

from healthmsg import Client, Outcome, Outgoing
from healthmsg.bulk.journal import State, open_journal
from healthmsg.bulk.preview import ProblemKind
from healthmsg.sandbox import CutAfter, CutBefore, Delay, Sandbox
from tests.bulk.journal_runs import fresh_client, lose, sent, states
from tests.bulk.sources import bodies

pytestmark = [
    pytest.mark.looptime(idle_step=0.1, idle_timeout=10),
    pytest.mark.usefixtures("ticking_clock", "nothing_is_left_behind"),
]

KINDS = ["user", "conversation", "by user", "aux"]
PAIRS = list(permutations(KINDS, 2))
# What is known without anything having been read: by the user's id, or since the conversation is started.
KNOWN_AT_ONCE = [pair for pair in PAIRS if "aux" not in pair and set(pair) != {"conversation", "by user"}]


@frozen
class Patient:
    """One patient, and the addresses of the conversation with that patient."""

    user: str
    conversation: str
    aux_id: str

    def address(self, kind: str) -> str:
        addresses = {
            "user": f"users/{self.user}",
            "conversation": f"conversations/{self.conversation}",
            "by user": f"conversations/{self.user}",
            "aux": f"aux/conversations/{self.aux_id}",
        }
        return addresses[kind]


def patients(sandbox: Sandbox, count: int) -> list[Patient]:
    found = []
    for number in range(count):
        aux_id = f"nummer {number}"
        user = sandbox.add_user("Bea", "Bos", aux_id=aux_id)
        found.append(Patient(user, sandbox.add_conversation(user=user), aux_id))
    return found


def in_pairs(found: Sequence[Patient], pairs: Sequence[tuple[str, ...]]) -> list[Outgoing]:
    """Make two messages to each patient, each to another address."""
    return [
        Outgoing(patient.address(kind), text)
        for number, patient in enumerate(found)
        for kind, text in zip(pairs[number % len(pairs)], ("eerst", "daarna"), strict=True)
    ]


def delay_some(sandbox: Sandbox) -> None:
    """Let answers take so long that what is not kept in order comes out of order."""
    sandbox.faults.add(kind=Delay(0.2), method="POST", template="conversations", times=None)
    for seconds, probability in ((0.7, 0.4), (0.3, 0.5)):
        sandbox.faults.add(kind=Delay(seconds), method="POST", probability=probability, seed=1, times=None)


def wrong(sandbox: Sandbox, found: Sequence[Patient]) -> list[Patient]:
    return [
        patient
        for patient in found
        if bodies(sandbox, patient.address("conversation")) != ["eerst", "daarna"]
    ]


@pytest.fixture(params=["plain", "journal"])
def options(request: pytest.FixtureRequest, file: Path) -> dict[str, Any]:
    return {"journal": file} if request.param == "journal" else {}


# --- as soon as it can be known


@pytest.mark.slow
async def test_what_is_started_keeps_its_order(
    client: Client, sandbox: Sandbox, options: dict[str, Any]
) -> None:
    found = patients(sandbox, 40)
    delay_some(sandbox)
    report = await client.send_many(in_pairs(found, KNOWN_AT_ONCE), **options).report()
    assert report.delivered == 80
    assert wrong(sandbox, found) == []


@pytest.mark.slow
@pytest.mark.parametrize("is_auxiliary", [False, True])
async def test_what_was_listed_keeps_its_order(
    client: Client, sandbox: Sandbox, options: dict[str, Any], is_auxiliary: bool
) -> None:
    found = patients(sandbox, 40)
    chats = client.auxiliary.conversations if is_auxiliary else client.conversations
    assert [chat async for chat in chats.list()]
    delay_some(sandbox)
    report = await client.send_many(in_pairs(found, PAIRS), **options).report()
    assert report.delivered == 80
    assert wrong(sandbox, found) == []


async def test_what_a_dry_run_asked_for_keeps_its_order(
    client: Client, sandbox: Sandbox, options: dict[str, Any]
) -> None:
    found = patients(sandbox, 12)
    messages = in_pairs(found, [pair for pair in PAIRS if "user" not in pair])
    await client.preview_many(messages, check_chats=True).report()
    delay_some(sandbox)
    await client.send_many(messages, **options).report()
    assert wrong(sandbox, found) == []


async def test_what_is_read_during_a_run_counts_from_then_on(
    client: Client, sandbox: Sandbox, options: dict[str, Any]
) -> None:
    (patient,) = patients(sandbox, 1)
    first, *others = (patient.address(kind) for kind in ("conversation", "aux", "conversation", "aux"))
    sandbox.faults.add(kind=Delay(2), path_contains=f"{first}/messages")
    is_read = asyncio.Event()

    async def messages() -> Any:
        yield Outgoing(first, "0")
        await is_read.wait()
        for number, other in enumerate(others, 1):
            yield Outgoing(other, str(number))

    async with client.send_many(messages(), **options) as run:
        await asyncio.sleep(1)
        await client.conversations(patient.conversation).get()
        is_read.set()
        assert {result.outcome async for result in run} == {Outcome.DELIVERED}
    assert bodies(sandbox, first) == ["0", "1", "2", "3"]


async def test_those_started_do_not_wait_for_one_another(
    client: Client, sandbox: Sandbox, options: dict[str, Any]
) -> None:
    users = [f"users/{sandbox.add_user('Bea', 'Bos')}" for _ in range(10)]
    sandbox.faults.add(kind=Delay(5), method="POST", template="conversations", times=None)
    began = asyncio.get_running_loop().time()
    await client.send_many([Outgoing(user, "x") for user in users], **options).report()
    assert asyncio.get_running_loop().time() - began < 8


async def test_a_start_that_fails_lets_the_others_go(
    client: Client, sandbox: Sandbox, options: dict[str, Any]
) -> None:
    (patient,) = patients(sandbox, 1)
    messages = [Outgoing("users/n0body", "x"), Outgoing(patient.address("conversation"), "y")]
    results = await client.send_many(messages, **options).all()
    assert sorted(result.outcome.value for result in results) == ["delivered", "not sent"]


async def test_one_that_waits_does_not_keep_a_held_run_from_trying(
    client: Client, sandbox: Sandbox, options: dict[str, Any]
) -> None:
    (patient,) = patients(sandbox, 1)
    messages = [Outgoing(patient.address(kind), kind) for kind in ("conversation", "user")]
    client._api.deliveries.me = sandbox.user_id  # a run with a journal asks for it before anything else
    away = asyncio.create_task(sandbox.go_offline(30))
    await asyncio.sleep(1)
    report = await client.send_many(messages, **options).report()
    await away
    assert report.delivered == 2
    assert bodies(sandbox, patient.address("conversation")) == ["conversation", "user"]


async def test_it_never_changes_where_a_message_goes(
    client: Client, sandbox: Sandbox, options: dict[str, Any]
) -> None:
    one, other = patients(sandbox, 2)
    aliases = client._api.aliases
    aliases.learn_same([one.address("conversation"), other.address("conversation"), one.address("aux")])
    messages = [
        Outgoing(patient.address(kind), f"{kind} {number}")
        for number, patient in enumerate((one, other))
        for kind in KINDS
    ]
    await client.send_many(messages, **options).report()
    for number, patient in enumerate((one, other)):
        assert sorted(map(str, bodies(sandbox, patient.address("conversation")))) == sorted(
            f"{kind} {number}" for kind in KINDS
        )


# --- repeats


@pytest.mark.parametrize("with_journal", [False, True])
async def test_the_same_text_to_two_addresses_of_a_patient_is_a_duplicate(
    client: Client, sandbox: Sandbox, file: Path, with_journal: bool
) -> None:
    one, other = patients(sandbox, 2)
    messages = [Outgoing(one.address(kind), "x") for kind in KINDS] + [Outgoing(other.address("aux"), "x")]
    given: dict[str, Any] = {"journal": file} if with_journal else {}

    problems = [problem async for problem in client.preview_many(messages, **given)]
    assert [(problem.kind, problem.index) for problem in problems] == [(ProblemKind.DUPLICATE, 2)]

    problems = [problem async for problem in client.preview_many(messages, check_chats=True, **given)]
    assert [(problem.kind, problem.index) for problem in problems] == [
        (ProblemKind.DUPLICATE, number) for number in (1, 2, 3)
    ]


async def test_keys_do_not_depend_on_what_is_known(client: Client, sandbox: Sandbox, file: Path) -> None:
    found = patients(sandbox, 4)
    messages = in_pairs(found, PAIRS)
    first = await sent(client, messages, journal=file)
    assert [chat async for chat in client.conversations.list()]
    again = await sent(client, messages, journal=file)
    assert [result.key for result in first] == [result.key for result in again]
    assert sum(len(bodies(sandbox, patient.address("conversation"))) for patient in found) == 8


# --- over several runs


@pytest.mark.slow
async def test_a_later_run_orders_by_what_an_earlier_one_learnt(
    client: Client, sandbox: Sandbox, file: Path
) -> None:
    found = patients(sandbox, 20)
    assert [chat async for chat in client.conversations.list()]
    await sent(client, [Outgoing(patient.address("aux"), "x") for patient in found], journal=file)
    messages = in_pairs(found, PAIRS)
    async with fresh_client(sandbox) as other:
        delay_some(sandbox)
        await sent(other, messages, journal=file)
        problems = [problem async for problem in other.preview_many(messages * 2, journal=file)]
    assert wrong(sandbox, found) == found  # for the "x" that came before
    assert all(
        bodies(sandbox, patient.address("conversation")) == ["x", "eerst", "daarna"] for patient in found
    )
    assert sum(problem.kind is ProblemKind.DUPLICATE for problem in problems) == 40


async def test_one_in_doubt_holds_up_the_other_address(client: Client, sandbox: Sandbox, file: Path) -> None:
    (patient,) = patients(sandbox, 1)
    messages = [Outgoing(patient.address(kind), kind) for kind in ("user", "conversation")]
    await sent(client, [Outgoing(patient.address("by user"), "known")], journal=file)
    lose(sandbox, CutAfter())
    lose(sandbox, CutBefore())
    await sent(client, messages, journal=file)
    assert bodies(sandbox, patient.address("conversation")) == ["known", "user", "conversation"]
    assert set((await states(file)).values()) == {State.DELIVERED}


# --- what was begun when it turned out


async def test_what_was_begun_to_both_addresses_is_left_to_its_end(
    client: Client, sandbox: Sandbox, file: Path
) -> None:
    (patient,) = patients(sandbox, 1)
    conversation, aux = patient.address("conversation"), patient.address("aux")
    sandbox.faults.add(kind=Delay(3), path_contains=f"{conversation}/messages")
    sandbox.faults.add(kind=Delay(2), path_contains="/v1/aux/conversations")
    messages = [Outgoing(to, str(number)) for number, to in enumerate((conversation, aux) * 3)]
    messages.insert(2, Outgoing(f"users/{sandbox.add_user('Cor', 'Cox')}", "another"))
    async with client.send_many(messages, journal=file) as run:
        await asyncio.sleep(1)
        await client.conversations(patient.conversation).get()
        assert {result.outcome async for result in run} == {Outcome.DELIVERED}
    there = bodies(sandbox, conversation)
    assert sorted(map(str, there)) == ["0", "1", "2", "3", "4", "5"]
    assert there[2:] == ["2", "3", "4", "5"]
    async with open_journal(file, is_reading=True) as journal:
        assert not await journal.has_open()
