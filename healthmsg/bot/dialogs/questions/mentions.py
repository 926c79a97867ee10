"""A question for people: the user mentions them."""

from collections.abc import Collection, Sequence
from typing import Any, ClassVar, Final

from attrs import field, fields, frozen

from healthmsg.bot.dialogs.questions.base import Given, Invalid, QuestionType, unreadable, without_halves
from healthmsg.bot.dialogs.questions.texts import Texts
from healthmsg.errors import InvalidInputError
from healthmsg.json_text import JSONObject
from healthmsg.models import Message, User
from healthmsg.models.users import EVERYBODY
from healthmsg.validation import check_all

_MOST: Final = 1_000
_FIELDS: Final = tuple(one.name for one in fields(User) if one.name not in {"id", "extra"})


@frozen
class MentionQuestion(QuestionType[list[User]]):
    """A question for users who are mentioned in the answer, each once.

    They are as the service sends them with the message; those that it does not send are known by `id` alone
    [V], and `complete_mentions` of a chat reads them. `[mention=@all]` is an answer with `everybody=True`
    only: then it is `User("@all")` and no other.

    `robots` are the ids of bots: in a group chat the bot itself is mentioned so that it listens. They do not
    count, unless `robots_count`. Users in `always` are added to an answer [V].
    """

    kind: ClassVar[str] = "mention"

    body: str = field(repr=False)
    everybody: bool = False
    robots: Collection[str] = field(default=(), repr=False)
    robots_count: bool = False
    always: Sequence[User] = field(default=(), repr=False)

    def __attrs_post_init__(self) -> None:
        check_all(self.always, User, "always")
        if isinstance(self.robots, str):
            raise InvalidInputError("robots must be a list of ids")

    def read(self, given: Given, state: JSONObject | None, texts: Texts) -> list[User] | Invalid:  # noqa: ARG002
        """Return the users."""
        message = Message("", body=given.text) if given.message is None else given.message
        return self._of(message.mentioned, texts)

    def _of(self, mentioned: Sequence[User], texts: Texts) -> list[User] | Invalid:
        # By their ids in lower case: the text may have them in capitals [V].
        robots = () if self.robots_count else {robot.lower() for robot in self.robots}
        found = {user.id.lower(): _clean(user) for user in mentioned if user.id.lower() not in robots}
        if found.pop(EVERYBODY.id, None) is not None:
            return [EVERYBODY] if self.everybody else Invalid(texts.mention_everybody)
        if not found:
            return Invalid(texts.mention_missing)
        for user in self.always:
            found.setdefault(user.id.lower(), user)
        return list(found.values())[:_MOST]

    def read_known(
        self,
        value: object,
        texts: Texts,
        today: object = None,  # noqa: ARG002 - no day is needed
    ) -> list[User] | Invalid:
        """Return users who were known before: `User`s or their ids. They are checked as those mentioned."""
        if isinstance(value, str):
            return self.read(Given(text=value), None, texts)
        if not isinstance(value, list | tuple) or not all(isinstance(one, User | str) for one in value):
            return Invalid(texts.mention_missing)
        return self._of([one if isinstance(one, User) else User(one) for one in value], texts)

    def encode(self, value: list[User]) -> list[dict[str, object]]:
        """Return what is known of each user."""
        return [user.to_dict() for user in value]

    def decode(self, document: object) -> list[User]:
        """Return the users."""
        if isinstance(document, list):
            try:
                return [User.from_dict(one) for one in document]
            except InvalidInputError:
                pass
        raise unreadable(self.kind)


def _clean(user: User) -> User:
    """Return a user of which all can be kept as JSON."""
    known: dict[str, Any] = {name: getattr(user, name) for name in _FIELDS}
    for name, value in known.items():
        if isinstance(value, str):
            known[name] = without_halves(value)
    return User(without_halves(user.id), **known)
