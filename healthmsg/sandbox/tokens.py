"""The codes and tokens that the sandbox gave out."""

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from secrets import token_urlsafe
from typing import Final

from attrs import define, evolve, field

SCOPES: Final = ("read", "write", "admin")
"""All scopes there are [D]."""
TOKEN_LIFETIME: Final = timedelta(days=3)
"""A sandbox token's [D]."""
CODE_LIFETIME: Final = timedelta(minutes=10)
"""An authorization code's [A: the most that RFC 6749 recommends]."""


@define(eq=False)
class Grant:
    """What a code, an access token or a refresh token stands for."""

    user_id: str
    scopes: Sequence[str]
    expires_at: datetime | None = None
    """`None`: never."""
    redirect_uri: str | None = None
    """Where a code was sent to."""
    revoked: bool = False
    rotated: bool = False
    """Whether this is a refresh token that has been used."""
    authorization: object = field(factory=object, repr=False)
    """The user's approval that it came of."""


@define
class Tokens:
    """All codes and tokens, by value. `now` says what time it is (aware)."""

    _now: Callable[[], datetime]
    _codes: dict[str, Grant] = field(factory=dict, init=False, repr=False)
    _access: dict[str, Grant] = field(factory=dict, init=False, repr=False)
    _refresh: dict[str, Grant] = field(factory=dict, init=False, repr=False)

    def issue_code(self, user_id: str, scopes: Sequence[str], redirect_uri: str) -> str:
        """Make a code that can be redeemed once."""
        return self._keep(
            self._codes, Grant(user_id, scopes, self._now() + CODE_LIFETIME, redirect_uri=redirect_uri)
        )

    def redeem_code(self, code: str, redirect_uri: str) -> Grant | None:
        """Give what a code stands for, and end it, even when the redirect address is not the code's."""
        grant = self._codes.pop(code, None)
        return grant if grant and self._valid(grant) and grant.redirect_uri == redirect_uri else None

    def issue_access(
        self,
        user_id: str,
        scopes: Sequence[str],
        lifetime: timedelta | None = None,
        *,
        authorization: object = None,
    ) -> str:
        """Make an access token; it lasts three days unless `lifetime` says otherwise."""
        expires_at = self._now() + (TOKEN_LIFETIME if lifetime is None else lifetime)
        return self._keep(self._access, _grant(user_id, scopes, expires_at, authorization))

    def issue_refresh(
        self,
        user_id: str,
        scopes: Sequence[str],
        lifetime: timedelta | None = None,
        *,
        authorization: object = None,
    ) -> str:
        """Make a refresh token; it lasts until it is used [A], unless `lifetime` says otherwise."""
        expires_at = None if lifetime is None else self._now() + lifetime
        return self._keep(self._refresh, _grant(user_id, scopes, expires_at, authorization))

    def revoke_if_reused(self, value: str) -> None:
        """End all that came of an authorization if this refresh token of it has been used before."""
        reused = self._refresh.get(value)
        if reused is None or not reused.rotated:
            return
        for grant in (*self._access.values(), *self._refresh.values()):
            if grant.authorization is reused.authorization:
                grant.revoked = True

    def refresh_grant(self, value: str) -> Grant | None:
        """Give what a refresh token stands for, if it is valid."""
        grant = self._refresh.get(value)
        return grant if grant and self._valid(grant) else None

    def known(self, value: str) -> Grant | None:
        """Give what an access token stands for, be it expired or revoked."""
        return self._access.get(value)

    def is_valid(self, value: str) -> bool:
        """Tell whether an access token opens anything."""
        grant = self._access.get(value)
        return grant is not None and self._valid(grant)

    def revoke(self, value: str) -> None:
        """End an access token or a refresh token.

        Raises:
            KeyError: this sandbox did not issue it.
        """
        grant = self._access.get(value) or self._refresh.get(value)
        if grant is None:
            raise KeyError("this sandbox did not issue that token")
        grant.revoked = True

    def _valid(self, grant: Grant) -> bool:
        return not grant.revoked and (grant.expires_at is None or self._now() < grant.expires_at)

    @staticmethod
    def _keep(where: dict[str, Grant], grant: Grant) -> str:
        value = token_urlsafe(24)
        where[value] = grant
        return value


def _grant(user_id: str, scopes: Sequence[str], expires_at: datetime | None, authorization: object) -> Grant:
    grant = Grant(user_id, scopes, expires_at)
    return grant if authorization is None else evolve(grant, authorization=authorization)
