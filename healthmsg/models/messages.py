"""Messages, their files, and what they carry besides their text: a question, a request for verification."""

import re
from collections.abc import Iterator
from datetime import datetime
from typing import Final

from attrs import field, frozen

from healthmsg.json_text import JSONObject
from healthmsg.models.base import ServiceModel, by_id, private
from healthmsg.models.users import EVERYBODY, User, UserOrId
from healthmsg.structuring import ASSUMED, by_type


@frozen
class Payload(ServiceModel):
    """What a message carries besides its text [V]; this class itself stands for every kind that is not known.

    All of an unknown kind is in `extra`.
    """

    type: str | None = None
    """`question` and `verification_request` are known, and have classes of their own."""


@frozen
class QuestionOption(ServiceModel):
    """A button of a question [V]. Every field may be missing, and is `None` then."""

    name: str | None = private()
    """What an answer gives back: an identifier of at most 32 characters."""
    label: str | None = private()
    """What the reader sees."""
    style: str | None = None
    """A colour word: `green`, `red`, …"""


@frozen
class QuestionAnswer(ServiceModel):
    """What one user answered [A]."""

    user_id: str | None = None
    options: tuple[str, ...] = field(default=(), repr=False)
    """The names of the options that were chosen."""


@frozen
class QuestionPayload(Payload):
    """A question with buttons [V]; `answers` [A]. Every field may be missing, and is `None` or empty then."""

    type: str | None = "question"
    options: tuple[QuestionOption, ...] = field(default=(), repr=False)
    multi_answer: bool | None = field(default=None, repr=False)
    """Whether several options may be chosen."""
    style: str | None = private()
    """`horizontal` or `vertical`."""
    users: tuple[UserOrId, ...] = field(default=(), repr=False)
    """Who is asked; known by `id` alone."""
    answers: tuple[QuestionAnswer, ...] = field(default=(), repr=False, metadata=ASSUMED)
    """The answers given so far. Where the service writes them is not known [A]: what does not look like this
    is in `extra["answers"]`."""


@frozen
class VerificationPayload(Payload):
    """A request to verify oneself with an identity provider [V]."""

    type: str | None = "verification_request"
    attributes: JSONObject = field(factory=dict, repr=False, hash=False)
    """As they came."""


# The id in any case, `@all` in lower case only [V].
_MENTION: Final = re.compile(r"(?i:\[mention=([\w-]+)\])|\[mention=(@all)\]", re.ASCII)


by_type(Payload, question=QuestionPayload, verification_request=VerificationPayload)


@frozen
class Attachment(ServiceModel):
    """A file in a chat [V]. Every field but `id` may be missing, and is `None` then."""

    id: str
    name: str | None = private()
    size: int | None = None
    """Bytes."""
    mime_type: str | None = None


@frozen
class Message(ServiceModel):
    """A message in a chat [V]; `created_at` and `liked_by` [A].

    Every field but `id` may be missing, and is `None` (or empty) then.
    """

    id: str
    body: str | None = private()
    user: User | None = field(default=None, repr=by_id)
    """The sender, where the service gives it whole."""
    user_id: str | None = None
    """The sender, where the service gives the id alone."""
    attachments: tuple[Attachment, ...] = field(default=(), repr=by_id)
    mentions: tuple[UserOrId, ...] = field(default=(), repr=by_id)
    """As the service lists them: users, some of them known by `id` alone. See `mentioned`."""
    payload: Payload | None = field(default=None, metadata=ASSUMED)
    """A `QuestionPayload`, a `VerificationPayload`, or a `Payload` of another kind."""
    created_at: datetime | None = field(default=None, metadata=ASSUMED)
    """Aware."""
    liked_by: tuple[UserOrId, ...] = field(default=(), repr=by_id, metadata=ASSUMED)

    @property
    def sender_id(self) -> str | None:
        """The sender's id, in whichever form the service gives it; `None` if in neither."""
        return self.user.id if self.user is not None else self.user_id

    @property
    def mentioned(self) -> tuple[User, ...]:
        """Who is mentioned, each once: `mentions`, and others that the text names as `[mention=<id>]` [V].

        Those are known by `id` alone. `[mention=@all]`, for all members of a group chat, the service does not
        list [V]: it is `User("@all")` here. A text may name an id that belongs to no user.
        """
        found: dict[str, User] = {}
        for user in (*self.mentions, *_named_in(self.body or "")):
            found.setdefault(user.id.lower(), user)
        return tuple(found.values())


@frozen
class SentMessage(ServiceModel):
    """The service accepted a message [V]."""

    id: str


def _named_in(body: str) -> Iterator[User]:
    for user_id, everybody in _MENTION.findall(body):
        yield EVERYBODY if everybody else User(user_id)
