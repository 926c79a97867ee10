"""How long a call may take."""

from attrs import evolve, field, frozen

from healthmsg.errors import ConfigurationError
from healthmsg.settings import positive


@frozen(kw_only=True)
class Timeout:
    """How long one try of a call may take, in seconds.

    `connect` bounds making a connection: finding the host's address, a proxy's consent and TLS included.
    `write` bounds a standstill while a body is being sent, `read` the wait for the answer and between two
    pieces of it, `total` the whole try without the wait for the limit, but with the time that decoding a
    large list takes. An upload's `total` grows by a second for each 50 kB, and a file that is downloaded has
    none. What the operating system has taken counts as sent: the last part of a body falls under `read`.
    Seconds in which the machine sleeps do not count: an answer that came meanwhile is still read.

    Raises:
        ConfigurationError: a number that cannot be a time.
    """

    connect: float = field(default=10.0, validator=positive)
    write: float = field(default=30.0, validator=positive)
    read: float = field(default=60.0, validator=positive)
    total: float = field(default=60.0, validator=positive)


def as_timeout(value: object, default: Timeout) -> Timeout:
    """Take a `Timeout` as it is, and a number as the `total` of `default`.

    Raises:
        ConfigurationError: it is neither.
    """
    if value is None:
        return default
    if isinstance(value, Timeout):
        return value
    if isinstance(value, int | float) and not isinstance(value, bool):
        return evolve(default, total=value)
    raise ConfigurationError("timeout must be a number of seconds or a Timeout")
