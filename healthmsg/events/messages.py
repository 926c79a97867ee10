"""What happens to messages: written, liked, deleted; a question answered, a verification done or refused."""

from datetime import datetime
from typing import Any, ClassVar, Final

from attrs import field, frozen

from healthmsg.events.base import ChatEvent, answer_id
from healthmsg.ids import ChatAddress
from healthmsg.json_text import JSONObject
from healthmsg.models import Message
from healthmsg.models.base import by_id
from healthmsg.structuring import draft_of


@frozen(kw_only=True)
class MessageCreated(ChatEvent):
    """A message was written [D]. One's own messages come too [V]: see `is_own`.

    Its id is `message/{message id}`.
    """

    kind: ClassVar[str] = "message_created"
    id_start: ClassVar[str] = "message"

    message: Message = field(repr=by_id)
    """As REST has it. As the gateway has it, there is no `created_at`, and there may be no `payload` [V]."""

    @classmethod
    def of(  # noqa: PLR0913 - what such an event has
        cls,
        chat: ChatAddress,
        message: Message,
        *,
        me: str,
        received_at: datetime,
        caught_up: bool = False,
        extra: JSONObject | None = None,
    ) -> "MessageCreated":
        """Make the event of a message, of which *me*, a user id, may be the sender."""
        # Of all events, only these come by the thousand.
        draft: Any = _Draft()
        draft.id = f"message/{message.id}"
        draft.received_at = received_at
        draft.is_own = message.sender_id == me
        draft.caught_up = caught_up
        draft.attempt = 1
        draft.extra = {} if extra is None else extra
        draft.chat = chat
        draft.message = message
        draft.__class__ = cls
        made: MessageCreated = draft
        return made

    @property
    def message_id(self) -> str:
        """The message's id."""
        return self.message.id

    @property
    def user_id(self) -> str | None:
        """The sender's id; `None` where the service does not say who it is."""
        return self.message.sender_id


_Draft: Final = draft_of(MessageCreated)


@frozen(kw_only=True)
class MessageLiked(ChatEvent):
    """A user liked a message [V]. At most once: one that was missed is not learnt later."""

    kind: ClassVar[str] = "message_liked"
    id_start: ClassVar[str] = "liked"
    durable: ClassVar[bool] = False

    message_id: str
    user_id: str


@frozen(kw_only=True)
class MessageDeleted(ChatEvent):
    """A message was deleted [V]. Its id is `deleted/{message id}`."""

    kind: ClassVar[str] = "message_deleted"
    id_start: ClassVar[str] = "deleted"

    message_id: str
    user_id: str | None = None
    """Who deleted it; `None` where the service does not say."""


@frozen(kw_only=True)
class QuestionAnswered(ChatEvent):
    """A user answered a question [V].

    Its id is `answer/{message id}/{user id}/{options}`, the options sorted and joined by commas. So a user
    who answers `ja`, then `nee`, then `ja` again makes two events.
    """

    kind: ClassVar[str] = "question_answered"
    id_start: ClassVar[str] = "answer"

    message_id: str
    """The question's."""
    user_id: str
    options: tuple[str, ...] = field(repr=False)
    """The names of the options that were chosen."""

    @classmethod
    def of(  # noqa: PLR0913 - what an answer has
        cls,
        chat: ChatAddress,
        message_id: str,
        user_id: str,
        options: tuple[str, ...],
        *,
        me: str,
        received_at: datetime,
        caught_up: bool = False,
        extra: JSONObject | None = None,
    ) -> "QuestionAnswered":
        """Make the event of a user's answer, which *me*, a user id, may have given."""
        return cls(
            id=answer_id(message_id, user_id, options),
            chat=chat,
            received_at=received_at,
            is_own=user_id == me,
            caught_up=caught_up,
            message_id=message_id,
            user_id=user_id,
            options=options,
            extra=extra or {},
        )


@frozen(kw_only=True)
class VerificationAccepted(ChatEvent):
    """A user proved who they are, as a message had asked [V]. Its id is `verified/{message id}`."""

    kind: ClassVar[str] = "verification_accepted"
    id_start: ClassVar[str] = "verified"

    message_id: str
    """That of the request, which `request_verification` returned."""
    user_id: str | None = None
    """Who is verified; `None` where the service does not say."""


@frozen(kw_only=True)
class VerificationRejected(ChatEvent):
    """A user did not want to prove who they are, or could not [V]. Its id is `rejected/{message id}`."""

    kind: ClassVar[str] = "verification_rejected"
    id_start: ClassVar[str] = "rejected"

    message_id: str
    """That of the request, which `request_verification` returned."""
    user_id: str | None = None
    """Who is not verified; `None` where the service does not say."""
