"""What a message can carry besides its text: a question with buttons, or a request to verify oneself."""

from attrs import field, frozen

from healthmsg.models.fields import ASSUMED, JSONObject, private
from healthmsg.models.users import UserOrId


@frozen
class Payload:
    """What a message carries besides its text [V]; this class itself stands for every kind that is not known.

    All of an unknown kind is in `extra`.
    """

    type: str | None = None
    """`question` and `verification_request` are known, and have classes of their own."""
    extra: JSONObject = field(factory=dict, repr=False, eq=False, kw_only=True)
    """JSON fields that the SDK does not know (yet)."""


@frozen
class QuestionOption:
    """A button of a question [V]. Every field may be missing, and is `None` then."""

    name: str | None = private()
    """What an answer gives back: an identifier of at most 32 characters."""
    label: str | None = private()
    """What the reader sees."""
    style: str | None = None
    """A colour word: `green`, `red`, …"""
    extra: JSONObject = field(factory=dict, repr=False, eq=False, kw_only=True)
    """JSON fields that the SDK does not know (yet)."""


@frozen
class QuestionAnswer:
    """What one user answered [A]."""

    user_id: str | None = None
    options: tuple[str, ...] = field(default=(), repr=False)
    """The names of the options that were chosen."""
    extra: JSONObject = field(factory=dict, repr=False, eq=False, kw_only=True)
    """JSON fields that the SDK does not know (yet)."""


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
