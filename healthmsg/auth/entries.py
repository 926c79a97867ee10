"""How a token is written down, whatever keeps it."""

from contextlib import suppress
from datetime import datetime
from typing import Any

from healthmsg.auth.token import Token

Document = dict[str, Any]


def entry_of(token: Token) -> Document:
    """Return a token as JSON can hold it."""
    return {
        "value": token.value,
        "scopes": token.scopes,
        "created_at": token.created_at.isoformat(),
        "expires_at": token.expires_at and token.expires_at.isoformat(),
        "refresh_token": token.refresh_token,
    }


def token_of(entry: Any) -> Token | None:
    """Return the token that was written down so; `None` if that is not what was written."""
    # ConfigurationError, which Token raises, is a ValueError.
    with suppress(KeyError, TypeError, ValueError, OverflowError):
        expires_at = entry["expires_at"]
        return Token(
            entry["value"],
            entry["scopes"],
            created_at=datetime.fromisoformat(entry["created_at"]),
            expires_at=None if expires_at is None else datetime.fromisoformat(expires_at),
            refresh_token=entry["refresh_token"],
        )
    return None
