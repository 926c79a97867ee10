"""How Redis or Valkey is reached: by one client, that connects when it is first used."""

from contextlib import suppress
from typing import Any, Final

from healthmsg.errors import ConfigurationError

try:
    from redis import RedisError
    from redis.asyncio import Redis
    from redis.asyncio.retry import Retry
    from redis.backoff import ConstantBackoff
except ModuleNotFoundError:
    raise ModuleNotFoundError(
        "Redis needs one more package: pip install 'healthmsg[redis]'", name="redis"
    ) from None

# Seconds.
_BETWEEN: Final = 0.1
__all__ = ["Redis", "RedisError", "answer_of", "connect"]

_ALIASES: Final = {"valkey": "redis", "valkeys": "rediss"}


def connect(url: str, longest_answer: float, *, repeats: int = 0) -> Redis:
    """Return a client that connects when it is first used, and asks again so often when that fails.

    Raises:
        ConfigurationError: the URL cannot be understood.
    """
    scheme, separator, rest = url.partition("://")
    scheme = _ALIASES.get(scheme, scheme)
    with suppress(ValueError, TypeError):
        if separator and scheme in {"redis", "rediss", "unix"}:
            return Redis.from_url(
                f"{scheme}://{rest}",
                socket_timeout=longest_answer,
                socket_connect_timeout=longest_answer,
                retry=Retry(ConstantBackoff(_BETWEEN), repeats),
            )
    # Without its own text, which may have a password in it.
    raise ConfigurationError(
        "a Redis URL must begin with redis://, rediss://, unix:// or valkey://, and be one"
    )


async def answer_of(asked: Any) -> Any:
    """Return what a command brings: redis-py's types leave open whether it is to be awaited."""
    return await asked
