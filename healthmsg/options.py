"""What can be set on a client, and the checks of it: what cannot work is refused by name."""

import os
from collections.abc import Callable
from inspect import iscoroutinefunction
from os import PathLike
from ssl import SSLContext
from typing import TYPE_CHECKING, TypedDict, TypeVar

from healthmsg.auth.manager import TokenManager
from healthmsg.auth.token import Token
from healthmsg.environment import Environment
from healthmsg.errors import ConfigurationError
from healthmsg.pipeline.record import OnCall
from healthmsg.pipeline.retry import Retries
from healthmsg.ratelimit.limiter import Limiter, RateLimit
from healthmsg.transport.timeouts import Timeout

if TYPE_CHECKING:
    from aiohttp import ClientSession

T = TypeVar("T")


class ClientOptions(TypedDict, total=False):
    """The options of `Client`, all of them optional."""

    rate_limit: RateLimit | Limiter | None
    session: "ClientSession | None"
    timeout: float | Timeout | None
    retries: Retries | None
    proxy: str | None
    ssl: SSLContext | str | PathLike[str] | None
    trust_env: bool
    api_version: str | None
    on_call: OnCall | None
    max_response_size: int


def option(name: str, value: object, kind: type[T], default: Callable[[], T]) -> T:
    """Take an option of its type, and the default where there is none.

    Raises:
        ConfigurationError: it has another type.
    """
    if value is None:
        return default()
    if isinstance(value, kind):
        return value
    raise ConfigurationError(f"{name} must be a {kind.__name__}, not {type(value).__name__}")


def limiter_of(rate_limit: object) -> Limiter:
    """Take a limiter as it is, to be shared, or make one.

    Raises:
        ConfigurationError: it is neither a limiter nor a limit.
    """
    if isinstance(rate_limit, Limiter):
        return rate_limit
    return Limiter(option("rate_limit", rate_limit, RateLimit, RateLimit))


def token_manager(token: object) -> TokenManager:
    """Take a token in any of its forms.

    Raises:
        ConfigurationError: it is none.
    """
    if isinstance(token, TokenManager):
        return token
    if isinstance(token, str):
        return TokenManager(Token(token))
    if isinstance(token, Token):
        return TokenManager(token)
    raise ConfigurationError(f"token must be text, a Token or a TokenManager, not {type(token).__name__}")


def hook(on_call: OnCall | None) -> OnCall | None:
    """Take what can be called with a record of each try.

    Raises:
        ConfigurationError: it cannot, or nothing would come of it, since it would have to be awaited.
    """
    if on_call is None or (callable(on_call) and not iscoroutinefunction(on_call)):
        return on_call
    raise ConfigurationError("on_call must be a plain function that takes a CallRecord")


def version(api_version: object) -> str | None:
    """Take what can stand in a header.

    Raises:
        ConfigurationError: it cannot.
    """
    if api_version is None or (
        isinstance(api_version, str) and api_version.isascii() and api_version.isprintable() and api_version
    ):
        return api_version
    raise ConfigurationError("api_version must be printable ASCII text")


def response_size(max_response_size: object) -> int:
    """Take a number of bytes.

    Raises:
        ConfigurationError: it is none, or less than 1.
    """
    if (
        isinstance(max_response_size, int)
        and not isinstance(max_response_size, bool)
        and max_response_size >= 1
    ):
        return max_response_size
    raise ConfigurationError("max_response_size must be a whole number of bytes, at least 1")


def token_from_env() -> str:
    """Read the access token in `HEALTHMSG_TOKEN`.

    Raises:
        ConfigurationError: there is none.
    """
    token = os.environ.get("HEALTHMSG_TOKEN", "").strip()
    if not token:
        raise ConfigurationError("HEALTHMSG_TOKEN is not set")
    return token


def environment_from_env() -> Environment:
    """Read which service is meant from `HEALTHMSG_API_URL` or `HEALTHMSG_ENVIRONMENT`.

    Raises:
        ConfigurationError: a variable is missing or unusable, or both are set, of which one may have been
            forgotten; it names the variable.
    """
    api_url = os.environ.get("HEALTHMSG_API_URL", "").strip()
    name = os.environ.get("HEALTHMSG_ENVIRONMENT", "").strip().lower()
    if api_url and name:
        raise ConfigurationError(
            "HEALTHMSG_API_URL and HEALTHMSG_ENVIRONMENT are both set, and name one service each: unset one"
        )
    if api_url:
        return Environment("from HEALTHMSG_API_URL", api_url)
    known = {"kpn": Environment.kpn(), "alterdesk": Environment.ALTERDESK}
    if name not in known:
        raise ConfigurationError(
            "HEALTHMSG_ENVIRONMENT must be kpn or alterdesk, or HEALTHMSG_API_URL be set"
        )
    return known[name]
