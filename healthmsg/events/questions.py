"""What REST tells of answers and verifications whose events were missed. Neither is in a list of messages.

Answers [A]: the contract has "the given answers" in the payload of a question, and not where. The SDK assumes
`answers: [{user_id, options}]`. What follows from it:

- an answer that is there was given: `answers_of` makes its event, with the id that the gateway's frame makes;
- a question without answers in that form may have been answered all the same: it stays open (`is_open`);
- where a user answers again in place of the first answer, the first one cannot be learnt any more; and a new
  answer after everybody has answered is found only if the question is read once more.

Verifications [V]: `GET users/{id}/verifications` names the identity providers that vouch for a user, and
`GET users/{id}/providers` those that do not yet. What follows from them:

- provable is that the user is verified with the provider now. A request can be made only while the user is
  not (the vendor's own software makes no other), so that happened after the request: `verification_of` makes
  its event. Whether this request led to it, or another one of the same user and provider, is not provable,
  and does not matter to who asks "is this the person?";
- **a rejection is not provable**: rejected, failed and not yet looked at look the same. No
  `VerificationRejected` ever comes of REST; who waits for one needs a time limit of their own;
- whether a verification was withdrawn later, and when any of it happened, is in neither list.
"""

from collections.abc import Iterable
from datetime import datetime

from attrs import frozen

from healthmsg.events.messages import QuestionAnswered, VerificationAccepted
from healthmsg.ids import ChatAddress
from healthmsg.models import IdentityProvider, Message, QuestionPayload, Verification, VerificationPayload


def answers_of(
    chat: ChatAddress, message: Message, *, me: str, received_at: datetime
) -> tuple[QuestionAnswered, ...]:
    """Return the answers of a question that was read over REST, each once; none of any other message.

    One without a user, or in which nothing is chosen, is left out: it may stand for "not answered yet" [A].
    """
    if not isinstance(message.payload, QuestionPayload):
        return ()
    found: dict[str, QuestionAnswered] = {}
    for answer in message.payload.answers:
        if answer.user_id and answer.options:
            event = QuestionAnswered.of(
                chat,
                message.id,
                answer.user_id,
                answer.options,
                me=me,
                received_at=received_at,
                caught_up=True,
                extra=answer.extra,
            )
            found.setdefault(event.id, event)
    return tuple(found.values())


def is_open(message: Message, could_answer: Iterable[str] = ()) -> bool:
    """Return whether answers may still come: of a question, some of those asked have not answered it.

    A question to no user in particular [V] asks those in *could_answer*, user ids, but for its sender [A]:
    members of the chat. As long as these are not known, it is open. False for what is no question.
    """
    payload = message.payload
    if not isinstance(payload, QuestionPayload):
        return False
    asked = {user.id for user in payload.users} or {*could_answer} - {message.sender_id}
    answered = {answer.user_id for answer in payload.answers if answer.options}
    return not asked or not asked <= answered


@frozen(kw_only=True)
class VerificationRequest:
    """A request for verification, as the caller of `request_verification` knows it."""

    message_id: str
    user_id: str
    """Who was asked."""
    provider: IdentityProvider
    """With what; its `name` is as the service has it: it is compared exactly [V]."""


def request_in(message: Message) -> VerificationRequest | None:
    """Return the request that a message holds; `None` if it holds none, or does not say all of it.

    That `attributes` has `user_id`, `provider_id` and `provider_name` is assumed [A]: only that it is an
    object is known [V].
    """
    if not isinstance(message.payload, VerificationPayload):
        return None
    attributes = message.payload.attributes
    user_id, provider_id, name = map(attributes.get, ("user_id", "provider_id", "provider_name"))
    if not (isinstance(user_id, str) and isinstance(provider_id, str) and isinstance(name, str)):
        return None
    if not (user_id and provider_id and name):
        return None
    return VerificationRequest(
        message_id=message.id, user_id=user_id, provider=IdentityProvider(provider_id, name)
    )


def verification_of(  # noqa: PLR0913 - what was asked, what REST says, and what an event has
    chat: ChatAddress,
    request: VerificationRequest,
    verifications: Iterable[Verification],
    providers: Iterable[IdentityProvider],
    *,
    me: str,
    received_at: datetime,
) -> VerificationAccepted | None:
    """Return the event that the user asked is verified now; `None` as long as that is not proven.

    Both lists of REST must agree: *verifications* names the provider, *providers* has it no more.
    """
    wanted = request.provider
    if not wanted.name or all(one.name != wanted.name for one in verifications):
        return None
    if any(one.provider_id == wanted.provider_id for one in providers):
        return None
    return VerificationAccepted(
        id=f"{VerificationAccepted.id_start}/{request.message_id}",
        chat=chat,
        received_at=received_at,
        is_own=request.user_id == me,
        caught_up=True,
        message_id=request.message_id,
        user_id=request.user_id,
    )
