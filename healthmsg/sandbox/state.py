"""What all parts of one sandbox share: its options, its tokens, its links to files."""

import re
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from hmac import compare_digest
from secrets import token_urlsafe
from typing import Final

from attrs import define, field, frozen

from healthmsg.environment import Environment
from healthmsg.sandbox.call_log import CallLog
from healthmsg.sandbox.limits import Quota, RateLimitPolicy, SlidingWindow
from healthmsg.sandbox.records import File, Habits, Person, StoredChat, StoredMessage
from healthmsg.sandbox.store import Store
from healthmsg.sandbox.watch import Watch

API_BASE: Final = "v1"
GATEWAY: Final = "gateway"
"""Its path, below the base of the API [D]."""
SCOPES: Final = ("read", "write", "admin")
"""All scopes there are [D]."""
TOKEN_LIFETIME: Final = timedelta(days=3)
"""A sandbox token's [D]."""
CODE_LIFETIME: Final = timedelta(minutes=10)
"""An authorization code's [A: the most that RFC 6749 recommends]."""
_COOKIE: Final = re.compile(r"(?:^|;\s*)download=([^;\s]*)")


def environment_at(url: str) -> Environment:
    """Return the URLs of a sandbox that listens there, for a `Client`."""
    return Environment(
        name="sandbox",
        api_url=f"{url}/{API_BASE}",
        authorize_url=f"{url}/oauth/authorize",
        token_url=f"{url}/oauth/token",
        gateway_url=f"ws{url.removeprefix('http')}/{API_BASE}/{GATEWAY}",
    )


def is_same(sent: str, expected: str) -> bool:
    """Compare a credential in constant time.

    What aiohttp could not decode is in `sent` as half surrogate pairs: it is compared like anything else.
    """
    return compare_digest(sent.encode(errors="surrogatepass"), expected.encode())


def _utc_now() -> datetime:
    return datetime.now(UTC)


@define(eq=False, kw_only=True)
class Options:
    """The arguments of `Sandbox`, which explains them."""

    rate_limit: RateLimitPolicy | None = field(factory=SlidingWindow)
    habits: Habits = field(factory=Habits)
    quota: Quota = field(factory=Quota)
    auto_approve: bool = True
    refresh_tokens: bool = False
    revoke_on_reuse: bool = False
    announce_expiry: bool = False
    retry_after: bool = True
    ranges: bool = True
    strict: bool = False
    allowed_hosts: Sequence[str] = ()
    foreign_downloads: bool = False
    sample_data: bool = True
    client_id: str = "healthmsg-sandbox"
    client_secret: str = field(default="healthmsg-sandbox-secret", repr=False)
    redirect_uri: str | None = "http://localhost:8765/callback"
    now: Callable[[], datetime] = _utc_now
    clock: Callable[[], float] | None = None
    on_message: Callable[[str], object] | None = None

    def __attrs_post_init__(self) -> None:
        if isinstance(self.allowed_hosts, str):
            raise ValueError("allowed_hosts must be a list of names")  # noqa: TRY004 - letters, as a list


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
    """All codes and tokens, by value."""

    _now: Callable[[], datetime]
    _codes: dict[str, Grant] = field(factory=dict, init=False, repr=False)
    _access: dict[str, Grant] = field(factory=dict, init=False, repr=False)
    _refresh: dict[str, Grant] = field(factory=dict, init=False, repr=False)

    def issue_code(self, user_id: str, scopes: Sequence[str], redirect_uri: str) -> str:
        """Make a code that can be redeemed once."""
        expires_at = self._now() + CODE_LIFETIME
        return _add(self._codes, Grant(user_id, scopes, expires_at, redirect_uri))

    def redeem_code(self, code: str, redirect_uri: str) -> Grant | None:
        """Return what a code stands for, and end it, even when the redirect address is not the code's."""
        grant = self._codes.pop(code, None)
        return grant if grant and self._valid(grant) and grant.redirect_uri == redirect_uri else None

    def issue_access(
        self,
        user_id: str,
        scopes: Sequence[str],
        lifetime: timedelta | None = None,
        authorization: object = None,
    ) -> str:
        """Make an access token; it lasts three days unless `lifetime` says otherwise."""
        expires_at = self._now() + (TOKEN_LIFETIME if lifetime is None else lifetime)
        grant = Grant(user_id, scopes, expires_at, authorization=authorization or object())
        return _add(self._access, grant)

    def issue_refresh(
        self,
        user_id: str,
        scopes: Sequence[str],
        lifetime: timedelta | None = None,
        authorization: object = None,
    ) -> str:
        """Make a refresh token; it lasts until it is used [A], unless `lifetime` says otherwise."""
        expires_at = None if lifetime is None else self._now() + lifetime
        grant = Grant(user_id, scopes, expires_at, authorization=authorization or object())
        return _add(self._refresh, grant)

    def revoke_if_reused(self, value: str) -> None:
        """End all that came of an authorization if this refresh token of it has been used before."""
        reused = self._refresh.get(value)
        if reused is None or not reused.rotated:
            return
        for grant in (*self._access.values(), *self._refresh.values()):
            if grant.authorization is reused.authorization:
                grant.revoked = True

    def refresh_grant(self, value: str) -> Grant | None:
        """Return what a refresh token stands for, if it is valid."""
        grant = self._refresh.get(value)
        return grant if grant and self._valid(grant) else None

    def known(self, value: str) -> Grant | None:
        """Return what an access token stands for, even if it is expired or revoked."""
        return self._access.get(value)

    def is_valid(self, value: str) -> bool:
        """Return whether an access token is known, not expired and not revoked."""
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


def _add(grants: dict[str, Grant], grant: Grant) -> str:
    value = token_urlsafe(24)
    grants[value] = grant
    return value


@frozen(eq=False)
class Download:
    """A file behind a link, and the cookie that opens it; `None`: it is open to all."""

    file: File
    cookie: str | None = field(repr=False)

    def opened_by(self, cookie_header: str) -> bool:
        """Return whether a `Cookie` header has this download's cookie."""
        if self.cookie is None:
            return True
        sent = _COOKIE.search(cookie_header)
        return sent is not None and is_same(sent[1], self.cookie)


@define(eq=False)
class State:
    """The options, the memory, the tokens and the log of one sandbox."""

    options: Options
    store: Store
    tokens: Tokens
    main_user: Person
    """Whose a token is unless another user is named."""
    log: CallLog = field(factory=CallLog)
    watch: Watch = field(init=False)
    origin: str = ""
    """Scheme, host and port, once it listens."""
    hosts: frozenset[str] = frozenset()
    """By which names it may be called, besides those on loopback."""
    files_origin: str = ""
    """The same, of the host of the files."""
    listed: set[Person | StoredChat | StoredMessage] = field(factory=set)
    """What pages of lists have shown so far."""
    uploads: int = 0
    """How many files have been uploaded so far."""
    _downloads: dict[str, Download] = field(factory=dict, init=False, repr=False)

    def __attrs_post_init__(self) -> None:
        self.watch = Watch(self.options.now)
        self.store.hub.listen(self.watch.hear)

    def offer(self, file: File) -> tuple[str, str]:
        """Make a link to a file, outside the API's base, and the `Set-Cookie` that opens it."""
        key, cookie = token_urlsafe(12), token_urlsafe(24)
        self._downloads[key] = Download(file, cookie)
        return f"{self.files_origin}/files/{key}", f"download={cookie}; Path=/files/{key}; HttpOnly"

    def publish(self, file: File) -> str:
        """Make a link to a file that is open to all, for a picture in a page [A]."""
        key = token_urlsafe(12)
        self._downloads[key] = Download(file, None)
        return f"{self.files_origin}/files/{key}"

    def download(self, key: str) -> Download | None:
        """Return what a link leads to."""
        return self._downloads.get(key)
