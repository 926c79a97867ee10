"""A user's token in a store that environment variables name: for workers that stay signed in."""

import os
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from attrs import evolve

from healthmsg.auth.manager import TokenManager
from healthmsg.auth.token import Token
from healthmsg.environment import Environment
from healthmsg.errors import ConfigurationError

if TYPE_CHECKING:
    from healthmsg.auth.oauth import OAuthApp
    from healthmsg.auth.stores import TokenStore

STORE_VARIABLE: Final = "HEALTHMSG_TOKEN_STORE"
_USER: Final = "HEALTHMSG_TOKEN_USER"
_CLIENT_ID: Final = "HEALTHMSG_CLIENT_ID"
_CLIENT_SECRET: Final = "HEALTHMSG_CLIENT_SECRET"  # noqa: S105 - the name of a variable
_TOKEN_URL: Final = "HEALTHMSG_TOKEN_URL"  # noqa: S105 - the name of a variable
_REDIS: Final = ("redis://", "rediss://", "unix://", "valkey://", "valkeys://")
_LONG_AGO: Final = datetime(1970, 1, 1, tzinfo=UTC)
# Not sent: it has expired, so that the store is read before the first call.
_NOT_READ_YET: Final = "not-read-yet"
# No part of a renewal.
_NO_CALLBACK: Final = "https://localhost/"


def stored_token_from_env(environment: Environment) -> TokenManager | None:
    """Return a manager of the token in the store of `HEALTHMSG_TOKEN_STORE`; `None` if that is not set.

    The store is the URL of a Redis or of a PostgreSQL database, or else a file; its keys are those of
    `TokenCipher.from_env`, without which only a file can be used. `HEALTHMSG_TOKEN_USER` is whose token it is
    there. With `HEALTHMSG_CLIENT_ID` and `HEALTHMSG_CLIENT_SECRET` it is renewed; `HEALTHMSG_TOKEN_URL` is
    where, if the environment does not say so itself.

    Raises:
        ConfigurationError: a variable is missing or unusable; it names the variable.
    """
    place = _value(STORE_VARIABLE)
    if not place:
        return None
    store, close = _store(place)
    user = _required(_USER)
    token = Token(_NOT_READ_YET, created_at=_LONG_AGO, expires_at=_LONG_AGO)
    manager = TokenManager(token, app=_app(environment), store=store, user=user)
    manager.when_closed = close
    return manager


def _store(place: str) -> "tuple[TokenStore, Callable[[], Awaitable[None]] | None]":
    try:
        if place.startswith(_REDIS):
            from healthmsg.auth.encryption import TokenCipher  # noqa: PLC0415 - needs the extra
            from healthmsg.auth.redis_store import RedisTokenStore  # noqa: PLC0415 - needs the extra

            in_redis = RedisTokenStore(place, TokenCipher.from_env())
            return in_redis, in_redis.close
        if "://" in place:
            from healthmsg.auth.encryption import TokenCipher  # noqa: PLC0415 - needs the extra
            from healthmsg.auth.sql_store import SQLTokenStore  # noqa: PLC0415 - needs the extra

            return SQLTokenStore(place, TokenCipher.from_env()), None
        return _file(place), None
    except ModuleNotFoundError as error:
        problem = str(error)
    raise ConfigurationError(f"{STORE_VARIABLE}: {problem}")


def _file(place: str) -> "TokenStore":
    from healthmsg.auth.stores import FileTokenStore  # noqa: PLC0415 - programs without a store start faster

    if not (_value("HEALTHMSG_TOKEN_KEYS") or _value("HEALTHMSG_TOKEN_KEYS_FILE")):
        return FileTokenStore(place)
    from healthmsg.auth.encryption import TokenCipher  # noqa: PLC0415 - needs the extra

    return FileTokenStore(place, cipher=TokenCipher.from_env())


def _app(environment: Environment) -> "OAuthApp | None":
    client_id, client_secret = _value(_CLIENT_ID), _value(_CLIENT_SECRET)
    if not client_id and not client_secret:
        return None
    from healthmsg.auth.oauth import OAuthApp  # noqa: PLC0415 - most programs never renew

    token_url = _value(_TOKEN_URL) or environment.token_url
    if not token_url:
        raise ConfigurationError(f"{_TOKEN_URL} is not set, and the environment does not say where that is")
    return OAuthApp(
        _required(_CLIENT_ID),
        _required(_CLIENT_SECRET),
        _NO_CALLBACK,
        evolve(environment, token_url=token_url),
    )


def _required(name: str) -> str:
    value = _value(name)
    if not value:
        raise ConfigurationError(f"{name} is not set")
    return value


def _value(name: str) -> str:
    return os.environ.get(name, "").strip()
