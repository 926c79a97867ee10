"""Which handler gets an event, and what becomes of the event when that fails."""

import asyncio
import logging
from collections.abc import Callable
from datetime import timedelta
from enum import Enum
from typing import Any

import pytest

from healthmsg.bot import (
    Answer,
    CallNext,
    Help,
    IncomingMessage,
    NotVerified,
    Retry,
    Router,
    Verified,
    command,
    from_user,
    in_conversation,
    in_group,
    text,
)
from healthmsg.bot.campaigns import CampaignMessage
from healthmsg.bot.scope import Scope
from healthmsg.bot.signals import ParkThis, RetryLater
from healthmsg.errors import ClientClosedError, ClientUsageError, ConfigurationError
from healthmsg.events import (
    Event,
    GroupChatCreated,
    MessageCreated,
    QuestionAnswered,
    TimerDue,
    VerificationAccepted,
    VerificationRejected,
)
from tests.bot.routing import AN, CONVERSATION, GROUP, ME, NOON, Bot, Dialogs, Known, answer, message


class EhrDown(Exception):  # noqa: N818 - as the design's example calls it
    pass


def says(
    bot: Bot, word: str, *filters: Callable[[IncomingMessage], bool], router: Router | None = None
) -> None:
    @(router or bot.router).message(*filters)
    async def say(message: IncomingMessage) -> None:
        await message.reply(word)


async def test_the_first_handler_that_is_meant_gets_the_message_and_no_other() -> None:
    bot, inner = Bot(), Router()
    says(bot, "group", in_group)
    says(bot, "inner", text("a"), router=inner)
    bot.router.include(inner)
    says(bot, "any")

    assert await bot.hears("a") == [True]
    assert bot.said == ["inner"]


async def test_all_filters_have_to_hold() -> None:
    bot = Bot()
    says(bot, "both", text("a"), in_group)

    assert await bot.hears("a") == [False]
    assert await bot.hears("a", chat=GROUP) == [True]


async def test_commands_go_before_dialogs_and_dialogs_before_other_handlers() -> None:
    dialogs = Dialogs((MessageCreated,))
    bot = Bot(dialogs=dialogs)
    says(bot, "any")
    says(bot, "mixed", command("ja") | text("nee"))
    says(bot, "help", command("help"))

    assert await bot.hears("/Help", "ja", "iets") == [True] * 3
    assert bot.said == ["help"]
    assert len(dialogs.got) == 2


async def test_a_message_that_its_dialog_does_not_take_goes_on() -> None:
    bot = Bot(dialogs=Dialogs((MessageCreated,), takes=False))
    says(bot, "any")

    assert await bot.hears("iets") == [True]
    assert bot.said == ["any"]


async def test_the_fallback_gets_what_nothing_else_takes() -> None:
    bot = Bot()

    @bot.router.fallback(in_conversation)
    async def unknown(message: IncomingMessage) -> None:
        await message.reply("?")

    says(bot, "ja", text("ja"))
    assert await bot.hears("ja") == [True]
    assert await bot.hears("nee", chat=GROUP) == [False]
    assert await bot.handle(answer("nee")) is False
    assert bot.said == ["ja"]
    bot.outbox.sent.clear()
    assert await bot.hears("nee") == [True]
    assert bot.said == ["?"]


async def test_what_the_bot_itself_does_comes_only_where_it_is_asked_for() -> None:
    bot = Bot(dialogs=Dialogs((Event,)))
    says(bot, "mine")
    assert await bot.hears("a", is_own=True) == [False]

    @bot.router.message(own=True)
    async def own(message: IncomingMessage) -> None: ...

    @bot.router.group_chat_created
    async def created(event: GroupChatCreated) -> None: ...

    bot.start()
    assert await bot.hears("a", is_own=True) == [True]
    assert await bot.handle(GroupChatCreated(id="chat/g1", chat=GROUP, received_at=NOON, is_own=True))


async def test_a_message_without_a_sender_is_for_handlers_of_any_event_alone() -> None:
    bot, got = Bot(), list[Event]()
    says(bot, "any")
    assert await bot.handle(message("hallo", user=None)) is False

    @bot.router.event
    async def any_event(event: Event) -> None:
        got.append(event)

    bot.start()
    assert await bot.handle(message("hallo", user=None))
    assert len(got) == 1
    assert bot.said == []


@pytest.mark.parametrize(
    ("kind", "view"), [(VerificationAccepted, Verified), (VerificationRejected, NotVerified)]
)
async def test_verifications_go_to_dialogs_and_then_to_their_handlers(kind: Any, view: Any) -> None:
    bot = Bot(dialogs=Dialogs((kind,), takes=False))
    got: list[Any] = []

    @bot.router.verified
    async def accepted(event: Verified) -> None:
        got.append(event)

    @bot.router.not_verified
    async def rejected(event: NotVerified) -> None:
        got.append(event)

    event = kind(id="v/1", chat=CONVERSATION, received_at=NOON, message_id="m9", user_id=AN)
    assert await bot.handle(event)
    (seen,) = got
    assert (type(seen), seen.message_id, seen.user_id, seen.user.id) == (view, "m9", AN, AN)

    bot.dialogs = Dialogs((kind,))
    assert await bot.handle(event)
    assert len(got) == 1


async def test_timers_of_dialogs_go_to_dialogs() -> None:
    bot = Bot(dialogs=Dialogs((TimerDue,)))
    assert await bot.handle(TimerDue(id="timer/1", received_at=NOON, timer="t", due=NOON))


# --- answers


class Visit(Enum):
    YES = "Ja"
    NO = "Nee"


def with_visit(bot: Bot) -> None:
    @bot.router.answered("visit", options=Visit)
    async def visit(answer: Answer[Visit]) -> None:
        await answer.reply(answer.option.name)


async def test_an_open_dialogs_question_goes_before_handlers() -> None:
    dialogs = Dialogs((QuestionAnswered,))
    bot = Bot(dialogs=dialogs, known={"q1": Known("k", "visit")})
    with_visit(bot)

    assert await bot.handle(answer("ja"))
    assert bot.said == []
    dialogs.takes = False
    assert await bot.handle(answer("ja"))
    assert bot.said == ["YES"]


async def test_an_answer_of_another_question_or_to_a_stranger_is_not_handed_over() -> None:
    bot = Bot(known={"q1": Known("k", "other")})
    with_visit(bot)

    assert await bot.handle(answer("ja")) is False
    assert await bot.handle(answer("ja", question="q2")) is False


@pytest.mark.parametrize(("campaign", "label"), [("visit", None), ("visit", "row 17"), ("recall", "visit")])
async def test_an_answer_to_a_campaign_is_known_by_its_name_or_by_its_messages_label(
    campaign: str, label: str | None
) -> None:
    bot = Bot(known={"q1": CampaignMessage(campaign, "afspraak 7", label)})
    keys = []

    @bot.router.answered("visit", options=Visit)
    async def visit(answer: Answer[Visit]) -> None:
        keys.append((answer.key, answer.question))

    assert await bot.handle(answer("ja"))
    assert keys == [("afspraak 7", label or campaign)]
    assert bot.asked_in == [CONVERSATION]  # it waits for no question of another chat


async def test_a_label_that_is_another_campaigns_name_leads_to_no_handler_of_that_one() -> None:
    recall = CampaignMessage("recall", "patient 7", "visit", is_ambiguous=True)
    bot = Bot(known={"q1": recall, "q2": CampaignMessage("visit", "patient 8", "visit")})
    with_visit(bot)
    assert await bot.handle(answer("ja", question="q2"))
    assert bot.said == ["YES"]
    with pytest.raises(ParkThis, match=r"@router\.answered\('recall'\)"):
        await bot.handle(answer("ja"))

    @bot.router.answered("recall", lambda answer: answer.question == "visit")
    async def of_recall(answer: Answer[str]) -> None:
        await answer.reply("recall")

    bot.start()
    assert await bot.handle(answer("ja"))
    assert bot.said[-1] == "recall"


async def test_a_label_that_no_handler_is_named_like_parks_nothing() -> None:
    bot = Bot(known={"q1": CampaignMessage("recall", "patient 7", "flu", is_ambiguous=True)})
    with_visit(bot)
    assert await bot.handle(answer("ja")) is False


async def test_an_answer_that_no_option_knows_is_parked_and_not_lost() -> None:
    bot = Bot(known={"q1": Known("k", "visit")})
    with_visit(bot)

    with pytest.raises(ParkThis, match=r"none of the options of .*visit \(.*test_dispatch\.py:\d+\)"):
        await bot.handle(answer("verzetten"))

    @bot.router.answered("visit", lambda answer: answer.option == "verzetten")
    async def other(answer: Answer[str]) -> None:
        await answer.reply(answer.option)

    bot.start()
    assert await bot.handle(answer("verzetten"))
    assert bot.said == ["verzetten"]


async def test_a_button_named_like_a_command_is_the_command_if_the_question_is_the_bots_own() -> None:
    bot = Bot()

    @bot.router.message(command("afspraak maken", "appointment"))
    async def begin(message: IncomingMessage) -> None:
        await message.reply(f"{message.user_id == AN} {message.is_pressed} {message.id}")

    bot.client.senders = {"q1": ME, "q2": AN}
    assert await bot.handle(answer("afspraak_maken"))
    assert bot.said == ["True True q1"]
    assert await bot.handle(answer("afspraak_maken", question="q2")) is False
    assert await bot.handle(answer("afspraak_maken", question="q3")) is False
    assert await bot.handle(answer("afspraak_maken", "appointment")) is False
    read = len(bot.client.read)
    assert await bot.handle(answer("iets")) is False
    bot.known = {"q4": Known("k", None)}
    assert await bot.handle(answer("appointment", question="q4"))
    assert len(bot.client.read) == read


def test_a_command_cannot_ask_for_what_a_button_does_not_have() -> None:
    bot = Bot()

    @bot.router.message(command("a"))
    async def begin(event: MessageCreated) -> None: ...

    with pytest.raises(ConfigurationError, match="nothing for 'event: MessageCreated'"):
        bot.start()


# --- help


def with_commands(bot: Bot) -> None:
    says(bot, "1", command("afspraak", help="een afspraak maken", label="Afspraak", style="green"))
    says(bot, "2", command("ping", help="is er iemand?"))
    says(bot, "3", command("secret"))
    says(bot, "4", command("group", help="een groep") & in_group)
    says(bot, "5", command("boss", label="Boss"), from_user("boss"))


async def test_help_lists_the_commands_that_hold_here_and_has_their_buttons() -> None:
    bot = Bot(help=Help(text="Ik kan:"))
    with_commands(bot)

    assert await bot.hears("Hulp")
    ((_, content),) = bot.outbox.sent.values()
    assert content.body == "Ik kan:\n• afspraak: een afspraak maken\n• ping: is er iemand?"
    assert content.question is not None
    assert [(one.label, one.name, one.style) for one in content.question.options] == [
        ("Afspraak", "afspraak", "green")
    ]
    bot.client.senders = {"q1": ME}
    assert await bot.handle(answer("afspraak"))


async def test_help_in_a_group_is_for_who_mentions_the_bot() -> None:
    bot = Bot(help=Help())
    with_commands(bot)

    assert await bot.hears("help", chat=GROUP) == [False]
    assert await bot.hears(f"[mention={ME}] help", chat=GROUP) == [True]
    assert "• group: een groep" in bot.said[0]


async def test_a_bots_own_help_takes_the_place_of_the_automatic_one() -> None:
    bot = Bot(help=Help())
    with_commands(bot)
    says(bot, "own", command("help", "wat"))

    await bot.hears("help")
    assert bot.said == ["own"]
    assert await bot.hears("hulp") == [False]


# --- middleware


async def test_middlewares_go_around_everything_the_outer_ones_first() -> None:
    bot, inner, log = Bot(), Router(), list[str]()

    @inner.middleware
    async def second(event: Event, call_next: CallNext) -> None:
        log.append("second")
        await call_next(event)

    @bot.router.middleware
    async def first(call_next: CallNext, event: Event) -> None:
        log.append("first")
        await call_next(event)
        log.append("after")

    bot.router.include(inner)
    says(bot, "any")
    assert await bot.hears("a") == [True]
    assert (log, bot.said) == (["first", "second", "after"], ["any"])


async def test_a_middleware_may_hold_an_event_back_but_not_hand_it_on_twice() -> None:
    bot = Bot()
    says(bot, "any")

    @bot.router.middleware
    async def twice(event: Event, call_next: CallNext) -> None:
        if isinstance(event, MessageCreated) and event.message.body == "held":
            return
        await call_next(event)
        with pytest.raises(ClientUsageError, match="awaited once"):
            await call_next(event)

    assert await bot.hears("held") == [False]
    assert await bot.hears("a") == [True]
    assert bot.said == ["any"]


# --- errors


def failing(bot: Bot, error: Exception, router: Router | None = None) -> None:
    @(router or bot.router).message
    async def fail(message: IncomingMessage) -> None:
        raise error


async def outcome(bot: Bot, event: Event) -> RetryLater | ParkThis:
    with pytest.raises((RetryLater, ParkThis)) as caught:
        await bot.handle(event)
    found = caught.value
    assert isinstance(found, RetryLater | ParkThis)
    return found


async def attempts(bot: Bot, *numbers: int) -> list[object]:
    from attrs import evolve

    found = [await outcome(bot, evolve(message("geheim"), attempt=number)) for number in numbers]
    return [one.after.total_seconds() if isinstance(one, RetryLater) else "parked" for one in found]


async def test_a_handler_that_fails_is_called_again_and_then_its_event_is_parked() -> None:
    bot = Bot()
    failing(bot, EhrDown("geheim"))

    @bot.router.error(EhrDown, retry=Retry(3, first=timedelta(seconds=5)))
    async def sorry(message: IncomingMessage, error: EhrDown) -> None:
        await message.reply(f"sorry {type(error).__name__}")

    assert await attempts(bot, 1, 2, 3) == [5.0, 10.0, 20.0]
    assert bot.said == []
    assert await attempts(bot, 4, 4) == ["parked"] * 2
    assert bot.said == ["sorry EhrDown"]
    assert [*bot.outbox.sent] == ["key-of-message/m1/error/1"]


async def test_the_wait_is_drawn_at_random_below_its_bound() -> None:
    bot = Bot()
    failing(bot, EhrDown())
    bot.start(random=lambda: 0.25)

    assert await attempts(bot, 1, 2, 3, 4) == [1.25, 2.5, 5.0, "parked"]
    assert Retry(99, first=timedelta(seconds=1), longest=timedelta(seconds=7)).wait(
        90, lambda: 1.0
    ) == timedelta(seconds=7)


@pytest.mark.parametrize("wrong", [{"times": -1}, {"times": 1.5}, {"first": timedelta()}, {"longest": 5}])
def test_a_retry_that_cannot_be_right_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError):
        Retry(**wrong)


async def test_the_closest_class_of_the_innermost_router_is_meant() -> None:
    bot, inner, log = Bot(), Router(), list[str]()

    for router, error, name in (
        (bot.router, EhrDown, "outer, exact"),
        (inner, Exception, "inner, any"),
        (inner, LookupError, "inner, lookup"),
    ):

        @router.error(error, retry=None)
        async def handle(event: Event, name: str = name) -> None:
            log.append(name)

    bot.router.include(inner)

    @inner.message
    async def fail(message: IncomingMessage) -> None:
        raise KeyError if message.body == "key" else EhrDown

    @bot.router.conversation_started
    async def fail_too() -> None:
        raise EhrDown

    from healthmsg.events import ConversationStarted

    for event in (
        message("key"),
        message("ehr"),
        ConversationStarted(id="chat/c1", chat=CONVERSATION, received_at=NOON),
    ):
        assert isinstance(await outcome(bot, event), ParkThis)
    assert log == ["inner, lookup", "inner, any", "outer, exact"]


async def test_an_error_handler_of_messages_is_not_for_other_events() -> None:
    bot = Bot()

    @bot.router.error(Exception, retry=None)
    async def sorry(message: IncomingMessage) -> None:
        await message.reply("sorry")

    @bot.router.timer
    async def due() -> None:
        raise EhrDown

    event = TimerDue(id="timer/1", received_at=NOON, timer="t", due=NOON)
    assert isinstance(await outcome(bot, event), RetryLater)


async def test_an_error_handler_that_fails_parks_all_the_same(caplog: pytest.LogCaptureFixture) -> None:
    bot = Bot()
    failing(bot, EhrDown())

    @bot.router.error(EhrDown, retry=None)
    async def sorry(message: IncomingMessage) -> None:
        raise ValueError("geheim")

    assert isinstance(await outcome(bot, message("a")), ParkThis)
    assert "the error handler sorry" in caplog.text
    assert "geheim" not in caplog.text


async def test_the_log_names_the_handler_and_the_place_and_nothing_private(
    caplog: pytest.LogCaptureFixture,
) -> None:
    bot = Bot()
    failing(bot, EhrDown("geheim"))

    with caplog.at_level(logging.DEBUG):
        found = await attempts(bot, 1, 4)
    assert found == [5.0, "parked"]
    line = failing.__code__.co_firstlineno
    assert f"fail ({__file__}:{line + 1}) raised EhrDown at {__file__}:{line + 3} in start 1" in caplog.text
    assert "is handled again in 5.0 s" in caplog.text
    assert "is parked" in caplog.text
    for private in ("geheim", AN, "c1"):
        assert private not in caplog.text
        assert private not in str(await outcome(bot, message("geheim")))


async def test_what_no_event_can_help_parks_none() -> None:
    bot = Bot()
    failing(bot, ClientClosedError())

    assert await attempts(bot, 1, 50) == [30.0, 30.0]


async def test_a_filter_that_fails_is_an_error_of_its_handler(caplog: pytest.LogCaptureFixture) -> None:
    bot = Bot()
    says(bot, "any", lambda message: len(message.body) / 0 > 1)

    assert isinstance(await outcome(bot, message("a")), RetryLater)
    assert "say (" in caplog.text
    assert "ZeroDivisionError" in caplog.text


async def test_a_dialog_that_fails_goes_to_the_error_handlers_too() -> None:
    class Broken(Dialogs):
        async def handle(self, scope: Scope) -> bool:
            self.got.append(scope.event)
            raise EhrDown

    bot = Bot(dialogs=Broken((MessageCreated,)))

    @bot.router.error(EhrDown, retry=None)
    async def sorry(message: IncomingMessage) -> None:
        await message.reply("sorry")

    assert isinstance(await outcome(bot, message("a")), ParkThis)
    assert bot.said == ["sorry"]


async def test_cancellation_goes_through_and_ends_the_replies() -> None:
    bot, started = Bot(), asyncio.Event()

    @bot.router.message
    async def wait(message: IncomingMessage) -> None:
        started.set()
        await asyncio.Event().wait()

    task = asyncio.create_task(bot.handle(message("a")))
    await started.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not bot.scopes[0].is_open


async def test_an_event_that_is_done_is_let_go_of() -> None:
    bot = Bot()
    says(bot, "any")

    await bot.hears("a")
    assert bot.scopes[0].incoming is bot.scopes[0].event
