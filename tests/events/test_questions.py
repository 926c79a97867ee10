from typing import Any

import pytest

from healthmsg import IdentityProvider, Message, QuestionAnswered, Verification, VerificationAccepted
from healthmsg.events import VerificationRequest, answers_of, is_open, request_in, verification_of
from tests.events.examples import CONVERSATION, GROUP_CHAT, ME, NOON, event_of

IDIN = IdentityProvider("p1", "idin")
REQUEST = VerificationRequest(message_id="m1", user_id="u1", provider=IDIN)


def question(*answers: Any, users: Any = ("u1", "u2"), sender: str | None = ME) -> Message:
    return Message.from_dict(
        {
            "id": "m1",
            "user_id": sender,
            "payload": {"type": "question", "users": list(users), "answers": list(answers)},
        }
    )


def answer(user_id: str | None, *options: str) -> dict[str, Any]:
    return {"user_id": user_id, "options": list(options)}


def answers(message: Message) -> tuple[QuestionAnswered, ...]:
    return answers_of(CONVERSATION, message, me=ME, received_at=NOON)


def test_an_answer_that_is_read_is_the_event_that_was_missed() -> None:
    pushed = event_of("conversation_question_answer", options=["nee", "ja"])

    (found,) = answers(question(answer("u1", "ja", "nee")))

    assert found.id == pushed.id
    assert (found.user_id, found.options, found.message_id) == ("u1", ("ja", "nee"), "m1")
    assert (found.caught_up, found.is_own, found.received_at) == (True, False, NOON)


def test_every_user_who_answered_has_an_event_and_each_answer_one() -> None:
    found = answers(question(answer("u1", "ja"), answer(ME, "nee"), answer("u1", "ja"), answer("u1", "nee")))

    assert [event.id for event in found] == ["answer/m1/u1/ja", f"answer/m1/{ME}/nee", "answer/m1/u1/nee"]
    assert [event.is_own for event in found] == [False, True, False]


def test_an_answer_that_says_nothing_is_none() -> None:
    assert answers(question(answer("u1"), answer(None, "ja"), answer("", "ja"))) == ()


@pytest.mark.parametrize("payload", [None, {"type": "poll"}, {"type": "verification_request"}])
def test_what_is_no_question_has_no_answers_and_is_not_open(payload: Any) -> None:
    message = Message.from_dict({"id": "m1", "payload": payload})

    assert answers(message) == ()
    assert not is_open(message)


def test_a_question_is_open_until_everybody_who_was_asked_has_answered() -> None:
    assert is_open(question())
    assert is_open(question(answer("u1", "ja"), answer("u3", "ja")))
    assert is_open(question(answer("u1", "ja"), answer("u2")))
    assert not is_open(question(answer("u1", "ja"), answer("u2", "nee")))


def test_a_question_to_all_is_open_until_all_but_its_sender_have_answered() -> None:
    everybody = ["u1", "u2", ME]

    assert is_open(question(answer("u1", "ja"), users=()), everybody)
    assert not is_open(question(answer("u1", "ja"), answer("u2", "ja"), users=()), everybody)
    assert is_open(question(answer("u1", "ja"), answer("u2", "ja"), users=(), sender=None), everybody)


def test_a_question_to_people_who_are_not_known_stays_open() -> None:
    assert is_open(question(answer("u1", "ja"), users=()))
    assert is_open(question(answer("u1", "ja"), users=()), [ME])


def test_a_question_whose_answers_cannot_be_read_stays_open() -> None:
    message = question("u1", "u2")

    assert answers(message) == ()
    assert is_open(message)


def verified(names: list[str], left: list[IdentityProvider], request: VerificationRequest = REQUEST) -> Any:
    return verification_of(
        GROUP_CHAT, request, [Verification(name) for name in names], left, me=ME, received_at=NOON
    )


def test_a_user_who_is_verified_now_makes_the_event_that_was_missed() -> None:
    pushed = event_of("groupchat_verification_accepted")

    found = verified(["digid", "idin"], [IdentityProvider("p2", "other")])

    assert type(found) is VerificationAccepted
    assert (found.id, found.message_id, found.user_id) == (pushed.id, "m1", "u1")
    assert found.caught_up


@pytest.mark.parametrize(
    ("names", "left"),
    [([], [IDIN]), ([], []), (["idin"], [IDIN]), (["iDIN"], []), (["digid"], [])],
)
def test_what_the_lists_do_not_prove_is_no_event(names: list[str], left: list[IdentityProvider]) -> None:
    assert verified(names, left) is None


def test_a_provider_without_a_name_proves_nothing() -> None:
    nameless = VerificationRequest(message_id="m1", user_id="u1", provider=IdentityProvider("p1"))

    assert verification_of(GROUP_CHAT, nameless, [Verification(None)], [], me=ME, received_at=NOON) is None


def requesting(attributes: Any) -> Message:
    payload = {"type": "verification_request", "attributes": attributes}
    return Message.from_dict({"id": "m1", "payload": payload})


def test_a_request_is_read_of_its_message_where_that_says_all() -> None:
    message = requesting({"user_id": "u1", "provider_id": "p1", "provider_name": "idin"})

    assert request_in(message) == REQUEST


@pytest.mark.parametrize(
    "attributes",
    [
        {},
        {"user_id": "u1", "provider_id": "p1"},
        {"user_id": "u1", "provider_id": "p1", "provider_name": ""},
        {"user_id": "u1", "provider_id": 5, "provider_name": "idin"},
        None,
    ],
)
def test_a_request_that_does_not_say_all_is_none(attributes: Any) -> None:
    assert request_in(requesting(attributes)) is None
    assert request_in(Message("m1")) is None
