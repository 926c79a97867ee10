"""What all parts of one sandbox share."""

import re
from secrets import token_urlsafe
from typing import Final

from attrs import define, field, frozen

from healthmsg.sandbox.credentials import is_same
from healthmsg.sandbox.records import File, Person, StoredChat, StoredMessage
from healthmsg.sandbox.settings import Settings
from healthmsg.sandbox.store import Store
from healthmsg.sandbox.tokens import Tokens

_COOKIE: Final = re.compile(r"(?:^|;\s*)download=([^;\s]*)")


@frozen(eq=False)
class Download:
    """A file behind a link, and the cookie that opens it; `None`: it is open to all."""

    file: File
    cookie: str | None = field(repr=False)

    def opened_by(self, cookie_header: str) -> bool:
        """Tell whether a `Cookie` header has this download's cookie."""
        if self.cookie is None:
            return True
        sent = _COOKIE.search(cookie_header)
        return sent is not None and is_same(sent[1], self.cookie)


@define(eq=False)
class State:
    """The settings, the memory and the tokens of one sandbox."""

    settings: Settings
    store: Store
    tokens: Tokens
    main_user: Person
    """Whom a token is for when nobody else is named."""
    origin: str = ""
    """Scheme, host and port, once it listens."""
    hosts: frozenset[str] = frozenset()
    """By which names it may be called, besides those on loopback."""
    files_origin: str = ""
    """The same, of the host of the files."""
    listed: set[Person | StoredChat | StoredMessage] = field(factory=set)
    """What pages of lists have given away so far."""
    uploads: int = 0
    """How many files have been uploaded so far."""
    _downloads: dict[str, Download] = field(factory=dict, init=False, repr=False)

    def offer(self, file: File) -> tuple[str, str]:
        """Make a link to a file, outside the API's base, and the `Set-Cookie` that opens it."""
        key, cookie = token_urlsafe(12), token_urlsafe(24)
        self._downloads[key] = Download(file, cookie)
        return f"{self.files_origin}/files/{key}", f"download={cookie}; Path=/files/{key}; HttpOnly"

    def publish(self, file: File) -> str:
        """Make a link to a file that anybody may open, for a picture in a page [A]."""
        key = token_urlsafe(12)
        self._downloads[key] = Download(file, None)
        return f"{self.files_origin}/files/{key}"

    def download(self, key: str) -> Download | None:
        """Find what a link leads to."""
        return self._downloads.get(key)
