"""How a dialog goes: each scenario once straight, and with a process that dies at every step."""

from datetime import timedelta

import pytest

from healthmsg.bot.dialogs.dialog import Dialog
from healthmsg.bot.dialogs.exits import NoAnswer, Stopped, TooManyTries
from healthmsg.bot.dialogs.questions import Texts
from healthmsg.bot.dialogs.registration import register
from healthmsg.bot.store.records import TimerRecord
from healthmsg.models import Option
from tests.bot.dialogs.simple import AskAll, Choice, Number, Text
from tests.bot.dialogs.world import CHAT, GROUP, MODES, Mode, World

modes = pytest.mark.parametrize("mode", MODES)
HOUR = timedelta(hours=1)
CALLS: list[object] = []


@pytest.fixture(autouse=True)
def no_calls() -> None:
    CALLS.clear()


def book(name: str, pain: int) -> str:
    CALLS.append((name, pain))
    return f"14:3{pain}"


@register(stop=("stop", "annuleren"), back=("terug",))
async def intake(d: Dialog) -> None:
    name = await d.ask(Text("Wat is uw naam?"))
    pain = await d.ask(Number("Pijn van 0 tot 10?"))
    if pain >= 7 and await d.ask(Choice("Mag een arts u bellen?")) == "ja":
        at = await d.once(book, name, pain)
        await d.say(f"U wordt om {at} gebeld.")
    await d.say("Dank u.")


@modes
async def test_questions_come_one_after_the_other_and_each_message_once(mode: Mode) -> None:
    world = World([intake], mode)

    await world.says("start")
    await world.says("An")
    await world.says("veel")
    await world.says("8")
    await world.presses("ja")

    assert world.sees == [
        "Wat is uw naam?",
        "Pijn van 0 tot 10?",
        "Dat is geen getal tot en met 10.\n\nPijn van 0 tot 10?",
        "Mag een arts u bellen?",
        "U wordt om 14:38 gebeld.",
        "Dank u.",
    ]
    assert CALLS[0] == ("An", 8)
    assert len(CALLS) == 1 or mode == "before"
    assert not world.is_open()
    assert not world.store.step_records
    assert not world.errors


@register()
async def everything(d: Dialog) -> str:
    number = await d.random()
    at, name = await d.now(), await d.uuid()
    first = await d.ask(Text("Eerst?"))
    assert (await d.random(), await d.now()) != (number, at)
    if first == "slaap":
        await d.sleep(HOUR)
    await d.say(f"{number} {at} {name}")
    return first


@modes
async def test_moments_and_random_values_are_the_same_after_a_restart(mode: Mode) -> None:
    world = World([everything], mode)
    await world.says("start")
    world.clock.advance(HOUR)

    await world.kill_and_restart()
    steps = {
        step.kind: step.value for step in await world.store.steps(next(iter(world.store.dialog_records)))
    }
    await world.says("hoi")

    number, at, name = (steps[kind] or "" for kind in ("random", "now", "uuid"))
    assert number.strip("[]") in world.sees[-1]
    assert "2026-03-02 09:00:00+00:00" in world.sees[-1]
    assert at.count("2026-03-02T09:00:00") == 1
    assert name.split('"')[-2] in world.sees[-1]


@modes
async def test_a_sleep_ends_at_its_time_and_handlers_get_messages_meanwhile(mode: Mode) -> None:
    world = World([everything], mode)
    await world.says("start")
    await world.says("slaap")
    await world.says("iets anders")

    await world.passes(HOUR - timedelta(seconds=1))
    assert len(world.sees) == 1
    await world.passes(timedelta(seconds=1))

    assert len(world.sees) == 2
    assert [event.kind for event in world.unhandled] == ["message_created"]
    assert not world.is_open()


# --- words


@modes
@pytest.mark.parametrize("answers", [[], ["An"], ["An", "8"], ["An", "veel"]])
async def test_stop_words_act_at_every_question(mode: Mode, answers: list[str]) -> None:
    world = World([intake], mode)
    await world.says("start")
    for answer in answers:
        await world.says(answer)

    await world.says("  Annuleren ")

    assert world.sees[-1] == "Gestopt."
    assert not world.is_open()
    assert not world.store.timers


@register()
async def careful(d: Dialog) -> None:
    try:
        await d.run(outer, "x")
    except Stopped:
        if await d.ask(Choice("Echt stoppen?")) == "ja":
            await d.say("Tot ziens.")
            return
    await d.say("Dan niet.")


@register(back=("terug",))
async def outer(d: Dialog, what: str) -> str:
    first = await d.ask(Text(f"Eerst {what}?"))
    inner_answer = await d.run(inner)
    last = await d.ask(Text(f"Na {inner_answer}?"))
    await d.say(f"{first} {inner_answer} {last}")
    return last


async def inner(d: Dialog) -> str:
    await d.once(book, "An", 1)
    await d.say("Binnen.")
    return await d.ask(Text("Binnen?")) + await d.ask(Text("Nog iets?"))


@modes
async def test_a_dialog_may_catch_the_stop_word_of_a_dialog_within_it(mode: Mode) -> None:
    world = World([careful], mode)
    await world.says("start")
    await world.says("een")
    await world.says("twee")

    await world.says("stop")
    await world.says("ja")

    assert world.sees[-2:] == ["Echt stoppen?", "Tot ziens."]


@register(back=("terug",))
async def whole(d: Dialog) -> None:
    await d.run(outer, "x")


@modes
async def test_back_goes_into_dialogs_within_and_out_of_them_and_repeats_no_effect(mode: Mode) -> None:
    world = World([whole], mode)
    await world.says("start")
    for said in ("een", "twee", "drie", "Terug", "terug", "terug"):
        await world.says(said)
    assert world.sees[-1] == "Eerst x?"
    for said in ("vier", "vijf", "zes", "zeven"):
        await world.says(said)

    assert world.sees[4:] == ["Na tweedrie?", "Nog iets?", "Binnen?", "Eerst x?", "Binnen?", "Nog iets?",
                              "Na vijfzes?", "vier vijfzes zeven"]  # fmt: skip
    assert world.sees.count("Binnen.") == 1
    assert len(CALLS) == 1 or mode == "before"
    assert not world.is_open()


@register(back=("terug",))
async def booking(d: Dialog) -> None:
    name = await d.ask(Text("Naam?"))
    at = await d.once(book, name, 3)
    await d.say(f"Genoteerd: {name}.")
    await d.ask(Text(f"{at}, goed?"))


@modes
async def test_what_comes_again_with_other_arguments_after_back_is_done(mode: Mode) -> None:
    world = World([booking], mode)
    await world.says("start")
    for said in ("An", "terug", "Bea", "terug", "An", "ja"):
        await world.says(said)

    assert list(dict.fromkeys(CALLS)) == [("An", 3), ("Bea", 3)]
    assert len(CALLS) == 2 or mode == "before"
    assert [body for body in world.sees if "Genoteerd" in body] == ["Genoteerd: An.", "Genoteerd: Bea."]
    assert not world.is_open()


@modes
async def test_back_at_the_first_question_asks_it_again(mode: Mode) -> None:
    world = World([booking], mode)
    await world.says("start")
    await world.says("terug")
    await world.says("An")

    assert world.sees == ["Naam?", "Dit is de eerste vraag.\n\nNaam?", "Genoteerd: An.", "14:33, goed?"]


@register(checkpoint=("opnieuw",), back=("terug",))
async def marked(d: Dialog) -> None:
    await d.ask(Text("Eerst?"))
    await d.mark()
    await d.ask(Text("Dan?"))
    await d.ask(Text("En dan?"))
    await d.ask(Text("Ten slotte?"))


@modes
async def test_a_checkpoint_word_goes_back_to_the_last_mark(mode: Mode) -> None:
    world = World([marked], mode)
    await world.says("start")
    for said in ("een", "twee", "drie", "opnieuw"):
        await world.says(said)
    assert world.sees[-1] == "Dan?"
    await world.says("opnieuw")
    assert world.sees[-1] == "Eerst?"


# --- invalid answers


@register()
async def three_tries(d: Dialog) -> None:
    try:
        await d.ask(Number("Pijn?"), tries=3, invalid="Nee.")
    except TooManyTries:
        await d.say("Een collega belt u.")


@modes
async def test_invalid_answers_are_asked_again_until_there_were_too_many(mode: Mode) -> None:
    world = World([three_tries], mode)
    await world.says("start")
    for said in ("a", "b", "c"):
        await world.says(said)

    assert world.sees == ["Pijn?", "Nee.\n\nPijn?", "Nee.\n\nPijn?", "Een collega belt u."]
    assert not world.is_open()


async def test_an_exit_that_the_code_does_not_catch_ends_the_dialog_with_a_word() -> None:
    @register()
    async def strict(d: Dialog) -> None:
        await d.ask(Number("Pijn?"), tries=1)

    world = World([strict])
    await world.says("start")
    await world.says("a")

    assert world.sees[-1] == "Dat lukt niet. Gestopt."
    assert not world.is_open()


# --- known before


@register(back=("terug",))
async def known(d: Dialog, what: str) -> None:
    name = await d.ask(Text("Naam?"), key="name")
    pain = await d.ask(Number("Pijn?"), key="pain")
    again = await d.ask(Text("Nog een naam?"), key="name")
    await d.say(f"{what}: {name} {pain} {again}")


async def start_known(world: World, scope: object) -> None:
    await world.start(scope, "W", answers={"name": "An", "pain": 99})  # type: ignore[arg-type]


@modes
async def test_an_answer_that_is_known_skips_its_question_once_and_one_that_is_not_valid_does_not(
    mode: Mode,
) -> None:
    world = World([known], mode, start_known)
    await world.says("start")
    assert world.sees == ["Pijn?"]
    await world.says("terug")
    await world.says("9")
    await world.says("terug")
    await world.says("8")
    await world.says("Bea")

    assert world.sees[1:] == ["Dit is de eerste vraag.\n\nPijn?", "Nog een naam?", "Pijn?", "Nog een naam?",
                              "W: An 8 Bea"]  # fmt: skip


# --- beginning again


@register()
async def counting(d: Dialog, count: int) -> None:
    more = await d.ask(Choice(f"{count}: nog een?"))
    await d.say(f"Nu {count}.")
    if more == "ja":
        await d.restart(with_=[count + 1])
    await d.say("Klaar.")


async def start_counting(world: World, scope: object) -> None:
    await world.start(scope, 1)  # type: ignore[arg-type]


@modes
async def test_a_dialog_that_begins_again_forgets_its_steps_and_takes_no_event_twice(mode: Mode) -> None:
    world = World([counting], mode, start_counting)
    await world.says("start")
    await world.says("ja")
    await world.presses("ja")
    await world.says("nee")

    assert world.sees == [
        "1: nog een?", "Nu 1.", "2: nog een?", "Nu 2.", "3: nog een?", "Nu 3.", "Klaar."
    ]  # fmt: skip
    assert not world.is_open()


# --- time


@register()
async def patient(d: Dialog) -> None:
    try:
        await d.ask(Choice("Komt u?"), remind=(HOUR, 3 * HOUR, 20 * HOUR), timeout=10 * HOUR)
        await d.say("Fijn.")
    except NoAnswer:
        await d.say("Geen antwoord.")


@modes
async def test_reminders_and_the_time_out_come_at_their_times(mode: Mode) -> None:
    world = World([patient], mode)
    await world.says("start")
    seen = []
    for _ in range(11):
        await world.passes(HOUR)
        seen.append(len(world.sees))

    assert seen == [2, 2, 3, 3, 3, 3, 3, 3, 3, 4, 4]
    assert world.sees == ["Komt u?", "Herinnering: Komt u?", "Herinnering: Komt u?", "Geen antwoord."]
    assert not world.store.timers


@modes
async def test_a_reminder_s_button_answers_the_question_and_takes_its_timers_back(mode: Mode) -> None:
    world = World([patient], mode)
    await world.says("start")
    await world.passes(HOUR)
    await world.presses("ja", "Herinnering: Komt u?")

    assert world.sees[-1] == "Fijn."
    assert not world.store.timers


@modes
@pytest.mark.parametrize(("down", "seen"), [(2, 1), (9, 1), (72, 0)])
async def test_after_days_without_the_bot_there_is_at_most_one_reminder(
    mode: Mode, down: int, seen: int
) -> None:
    world = World([patient], mode)
    await world.says("start")

    await world.is_down_for(down * HOUR)

    assert sum("Herinnering" in body for body in world.sees) == seen
    assert world.is_open() == (down != 72)


@modes
async def test_the_timers_of_a_question_end_with_its_answer(mode: Mode) -> None:
    @register()
    async def two_questions(d: Dialog) -> None:
        await d.ask(Text("Naam?"), remind=HOUR, timeout=2 * HOUR)
        await d.ask(Text("Plaats?"))

    world = World([two_questions], mode)
    await world.says("start")
    assert {timer.kind for timer in world.store.timers.values()} == {"remind", "timeout"}
    late = [timer.id for timer in world.store.timers.values()]
    await world.says("An")
    assert not world.store.timers

    # One that was in the inbox already is no reminder of the next question.
    for kind in ("remind", "timeout"):
        document = f'{{"number":0,"part":1,"asked":"{world.clock.now().isoformat()}"}}'
        dialog = next(iter(world.store.dialog_records))
        timer = TimerRecord(late[0], world.clock.now(), CHAT.text, "an", dialog, kind, document)
        world.store.timers[late[0]] = timer
        await world.rings()
    assert world.sees == ["Naam?", "Plaats?"]
    assert world.is_open()


# --- a person


@register()
async def nurse(d: Dialog) -> None:
    await d.ask(Text("Wat is er?"))
    await d.hand_over("Een vraag", resume=("bot",))
    await d.say("Ik ben er weer.")


@modes
async def test_after_hand_over_the_bot_is_silent_until_a_person_gives_the_chat_back(mode: Mode) -> None:
    world = World([nurse], mode)
    await world.says("start")
    await world.says("pijn")
    for said in ("hallo?", "stop", "start"):
        await world.says(said)
    await world.kill_and_restart()
    event = world.message("help")
    assert world.engine.silenced(event) == frozenset({"bot"})
    assert world.engine.silenced(world.message("help", user="bea")) is None
    assert world.sees == ["Wat is er?"]
    assert not world.unhandled

    assert await world.by_hand("take_back", (event.chat, "an"))

    assert world.sees == ["Wat is er?", "Ik ben er weer."]
    assert world.engine.silenced(event) is None
    assert not world.is_open()


@modes
async def test_a_person_may_take_a_chat_over_at_an_open_question(mode: Mode) -> None:
    world = World([intake], mode)
    await world.says("start")
    place = (world.message("").chat, "an")

    assert await world.by_hand("hand_over", place, "Ik doe het zelf")
    await world.says("An")
    assert world.sees == ["Wat is uw naam?"]
    assert await world.by_hand("take_back", place)

    assert not world.is_open()
    assert world.sees == ["Wat is uw naam?", Texts.dutch().handed_over]
    await world.says("start")
    assert len(world.sees) == 3


# --- several users


@register()
async def agreement(d: Dialog) -> None:
    answers = await d.ask(AskAll("Akkoord?", ("an", "bea", "cor")))
    await d.say(" ".join(f"{user}={answer}" for user, answer in answers.items()))


@modes
async def test_several_users_answer_one_question_pressed_and_typed(mode: Mode) -> None:
    world = World([agreement], mode)
    await world.says("start", chat=GROUP)
    await world.presses("ja", user="cor", chat=GROUP)
    await world.presses("nee", user="dirk", chat=GROUP)
    await world.says("ja", user="dirk", chat=GROUP)
    await world.says("misschien", user="bea", chat=GROUP)
    await world.says("Ja", user="bea", chat=GROUP)
    await world.says("ja", user="an", chat=GROUP)

    assert world.sees == ["Akkoord?", "1 van 3", "Ja of nee?\n\nAkkoord?", "2 van 3", "cor=ja bea=ja an=ja"]
    assert [event.kind for event in world.unhandled] == ["message_created"]
    await world.says("ja", user="bea", chat=GROUP)
    assert len(world.unhandled) == 2


@register()
async def farewell(d: Dialog) -> None:
    await d.say("Tot ziens.", options=[Option("Opnieuw", name="start")])


@modes
async def test_the_buttons_of_what_is_said_are_no_answers_of_the_dialog(mode: Mode) -> None:
    world = World([farewell], mode)
    await world.says("start")
    (content,) = [content for _, content in world.outbox.sent.values()]
    assert content.question is not None
    assert [option.name for option in content.question.options] == ["start"]

    await world.presses("start")

    assert world.sees == ["Tot ziens."]
    assert [event.kind for event in world.unhandled] == ["question_answered"]
