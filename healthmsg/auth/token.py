"""What a user's authorization is worth."""

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

from attrs import Attribute, field, frozen
from attrs.converters import optional

from healthmsg.errors import ConfigurationError
from healthmsg.errors.base import hides_arguments
from healthmsg.validation import is_printable


def utc_now() -> datetime:
    """Return the present moment, aware and in UTC."""
    return datetime.now(UTC)


def _usable_in_a_header(_: object, __: "Attribute[str]", value: str) -> None:
    if not is_printable(value) or " " in value:
        raise ConfigurationError("a token must be printable ASCII text without spaces, and not empty")


def _usable_in_a_form(_: object, __: "Attribute[str | None]", value: str | None) -> None:
    if value is not None and not is_printable(value):
        raise ConfigurationError("a refresh token must be printable ASCII text, and not empty; or None")


def _separate_scopes(scopes: Iterable[str]) -> tuple[str, ...]:
    separate = () if isinstance(scopes, str) else tuple(scopes)
    if isinstance(scopes, str) or not all(is_printable(scope) for scope in separate):
        raise ConfigurationError('scopes must be separate texts, such as ("read", "write")')
    return separate


def _in_utc(moment: datetime) -> datetime:
    if not isinstance(moment, datetime) or moment.utcoffset() is None:
        raise ConfigurationError("a token's times must be datetimes with a time zone")
    return moment.astimezone(UTC)


@frozen
class Token:
    """What a user's authorization is worth: the bearer token, and what is known about it.

    `expires_at` is None when the lifetime is not known, as with the answer that the service documents [D];
    a sandbox token lives 3 days [D]. `refresh_token` is there if the service gave one [A]. Times are kept
    in UTC.

    Raises:
        ConfigurationError: a text is empty or not printable ASCII, or a time has no time zone.
    """

    value: str = field(repr=False, validator=_usable_in_a_header)
    scopes: tuple[str, ...] = field(default=(), converter=_separate_scopes)
    created_at: datetime = field(factory=utc_now, converter=_in_utc, kw_only=True)
    expires_at: datetime | None = field(default=None, converter=optional(_in_utc), kw_only=True)
    refresh_token: str | None = field(default=None, repr=False, validator=_usable_in_a_form, kw_only=True)

    def is_expired(self, now: datetime, leeway: timedelta = timedelta()) -> bool:
        """Return whether the token is known to have expired at `now`, or to expire within `leeway` of it."""
        return self.expires_at is not None and now + leeway >= self.expires_at


# A traceback shows the local variables of its frames, and text that is refused may be a token all the same.
Token.__init__ = hides_arguments(Token.__init__)  # type: ignore[method-assign]


def is_same(one: Token | None, other: Token | None) -> bool:
    """Return whether two tokens are the same for the service: a store may keep times less exactly."""
    if one is None or other is None:
        return one is other
    return (one.value, one.refresh_token) == (other.value, other.refresh_token)
