"""Messages, their files, and what they carry besides their text: a question, a request for verification."""

import re
import warnings
from collections.abc import Iterator, Sequence
from datetime import datetime
from hashlib import sha256
from typing import Final, Literal

from attrs import field, frozen

from healthmsg.codec import Model
from healthmsg.errors import InvalidInputError
from healthmsg.ids import fold_aux_id
from healthmsg.json_text import JSONObject
from healthmsg.models.base import ServiceModel, by_id, private
from healthmsg.models.users import EVERYBODY, User, UserOrId
from healthmsg.structuring import ASSUMED, by_type
from healthmsg.validation import check_text

_LONGEST_NAME: Final = 32
_is_name: Final = re.compile(rf"[A-Za-z0-9_]{{1,{_LONGEST_NAME}}}").fullmatch
STYLES: Final = ("green", "red", "orange", "blue", "yellow", "purple", "black", "theme")
"""The colours of buttons that the vendor's own software uses [V]."""
_OTHER_STYLE: Final = (
    f"an option's style is none of {', '.join(STYLES)}: the service may refuse it, or show another colour"
)
_STARS: Final = str.maketrans("★☆", "10")
# What JavaScript takes for white space, and the vendor's client trims [V].
_BLANKS: Final = "\t\n\v\f\r \xa0\u1680\u2028\u2029\u202f\u205f\u3000\ufeff" + "".join(
    map(chr, range(0x2000, 0x200B))
)


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


# --- what is asked


@frozen(init=False)
class Option(Model):
    """A button of a question [V].

    `label` is what the reader sees. `name` is what the answer gives back: at most 32 letters, digits and
    underscores; without it, it is derived from the label as the vendor's client does (`"Ja, graag"` becomes
    `ja_graag`). `style` is a colour word that the vendor's own bots use [V]: `green`, `red`, `orange`,
    `blue`, `yellow`, `purple`, `black`, or `theme` for the application's own colour. Another one is sent with
    a warning: which others the service knows is not documented.

    Raises:
        InvalidInputError: one of them cannot be right.
    """

    label: str = field(repr=False)
    name: str = field(repr=False)
    style: str | None

    def __init__(self, label: str, *, name: str | None = None, style: str | None = None) -> None:
        check_text(label, "an option's label")
        if name is not None and (not isinstance(name, str) or not _is_name(name)):
            raise InvalidInputError(
                f"an option's name must be 1 to {_LONGEST_NAME} letters (a-z), digits or underscores"
            )
        if style is not None:
            check_text(style, "an option's style")
            if style not in STYLES:
                warnings.warn(_OTHER_STYLE, stacklevel=2)
        self.__attrs_init__(label, name or _name_for(label), style)


@frozen
class Question(Model):
    """What is asked with buttons [V]; see `ask` of a chat for what each part means."""

    options: Sequence[Option] = field(repr=False)
    users: Sequence[str] = ()
    """Ids of those who are asked."""
    multi_answer: bool = False
    style: Literal["horizontal", "vertical"] = "horizontal"


def _name_for(label: str) -> str:
    folded = fold_aux_id(label.strip(_BLANKS).translate(_STARS))
    name = re.sub(r"\W+", "_", folded, flags=re.ASCII)[:_LONGEST_NAME].lower()
    if name.strip("_"):
        return name
    # No letter is left of a label in another script: any name will do that is always the same.
    return f"option_{sha256(label.encode(errors='replace')).hexdigest()[:12]}"
