"""A request that the user proves who they are. Making it and waiting is the engine's."""

from collections.abc import Iterable
from typing import ClassVar

from attrs import field, frozen

from healthmsg.bot.content import Content
from healthmsg.bot.dialogs.questions.base import Given, Invalid, More, QuestionType, unreadable
from healthmsg.bot.dialogs.questions.texts import Texts
from healthmsg.events import VerificationAccepted, VerificationRejected
from healthmsg.json_text import JSONObject
from healthmsg.models import IdentityProvider, Verification
from healthmsg.validation import check_text


@frozen
class VerificationResult:
    """What came of a request for verification."""

    is_verified: bool
    """Whether the user has proven who they are."""
    provider: str
    """With what: the name of the identity provider."""
    message_id: str | None = field(default=None, repr=False)
    """The request's message; `None` if the user was verified already, and nothing was asked."""

    def __bool__(self) -> bool:
        return self.is_verified


@frozen
class VerificationQuestion(QuestionType[VerificationResult]):
    """A request that the user proves who they are with an identity provider, known by its name [V].

    Upper and lower case matter in the name [V]. A user who is verified with it already is not asked. `body`
    is a text that is sent before the request; empty for none.

    Raises:
        InvalidInputError: the provider's name is empty.
    """

    kind: ClassVar[str] = "verification"

    provider: str = "idin"
    body: str = field(default="", repr=False)

    def __attrs_post_init__(self) -> None:
        check_text(self.provider, "provider")

    def content(self, texts: Texts) -> Content:  # noqa: ARG002
        """Return what is sent before the request, if its body is not empty."""
        return Content(self.body)

    def request(
        self, providers: Iterable[IdentityProvider], verifications: Iterable[Verification]
    ) -> IdentityProvider | VerificationResult | None:
        """Return with what to ask the user, or the result if nothing need be asked.

        `None`: this user cannot be verified with it. *providers* are those with which the user may be
        verified, *verifications* those that were done [V].
        """
        for provider in providers:
            if provider.name == self.provider:
                return provider
        if any(done.name == self.provider for done in verifications):
            return VerificationResult(True, self.provider)
        return None

    def read(
        self, given: Given, state: JSONObject | None, texts: Texts
    ) -> VerificationResult | Invalid | More:
        """Return the result of the event; a text is none, and the question waits on."""
        if isinstance(given.event, VerificationAccepted | VerificationRejected):
            is_verified = isinstance(given.event, VerificationAccepted)
            return VerificationResult(is_verified, self.provider, given.event.message_id)
        return More(state or {}, texts.verification_waiting)

    def read_known(
        self,
        value: object,
        texts: Texts,
        today: object = None,  # noqa: ARG002 - no day is needed
    ) -> VerificationResult | Invalid:
        """Return a result that was known before: it must be one, since no text proves who a user is."""
        if isinstance(value, VerificationResult) and value.provider == self.provider:
            return value
        return Invalid(texts.verification_waiting)

    def encode(self, value: VerificationResult) -> dict[str, object]:
        """Return its parts."""
        return {"verified": value.is_verified, "provider": value.provider, "message": value.message_id}

    def decode(self, document: object) -> VerificationResult:
        """Return the result."""
        match document:
            case {"verified": bool(verified), "provider": str(provider), "message": str() | None as message}:
                return VerificationResult(verified, provider, message)
        raise unreadable(self.kind)
