"""Where a journal is: a file, or a PostgreSQL database."""

import os
from pathlib import Path
from typing import Final
from urllib.parse import parse_qsl, urlencode

from attrs import field, frozen

from healthmsg.errors import ConfigurationError

_KEEP_BODIES: Final = "keep_bodies"
_KINDS: Final = "a path, sqlite:///… or postgresql+asyncpg://…"
_SQLITE: Final = ("sqlite+aiosqlite:///", "sqlite:///")
_POSTGRESQL: Final = ("postgresql+asyncpg://", "postgresql://")


@frozen
class Target:
    """Where a journal is, and whether it keeps what delivered messages said."""

    path: Path | None
    """Of an SQLite file."""
    url: str | None = field(repr=False)
    """Of a PostgreSQL database; it may have a password in it."""
    keep_bodies: bool = False

    @classmethod
    def parse(cls, target: str | os.PathLike[str]) -> "Target":
        """Read what a user gives. A `Path` is taken as it is; text may end with `?keep_bodies=1`.

        Raises:
            ConfigurationError: it is neither a file nor a PostgreSQL database.
        """
        if not isinstance(target, str):
            return cls(_checked(os.fspath(target)), None)
        place, options, keep_bodies = _without_keep_bodies(target)
        for start in _POSTGRESQL:
            if place.startswith(start):
                rest = place.removeprefix(start)
                query = f"?{urlencode(options)}" if options else ""
                return cls(None, f"{_POSTGRESQL[0]}{rest}{query}", keep_bodies)
        if options:
            # SQLite's own would let one switch off locks or syncing.
            raise ConfigurationError(f"a journal in a file knows no other option than {_KEEP_BODIES}")
        for start in _SQLITE:
            if place.startswith(start):
                return cls(_checked(place.removeprefix(start)), None, keep_bodies)
        if "://" in place:
            raise ConfigurationError(f"a journal must be {_KINDS}")
        return cls(_checked(place), None, keep_bodies)


def _without_keep_bodies(target: str) -> tuple[str, list[tuple[str, str]], bool]:
    place, _, query = target.partition("?")
    options = parse_qsl(query, keep_blank_values=True)
    wanted = {value for name, value in options if name == _KEEP_BODIES}
    if not wanted <= {"0", "1"} or len(wanted) > 1:
        raise ConfigurationError(f"{_KEEP_BODIES} must be 0 or 1")
    return place, [(name, value) for name, value in options if name != _KEEP_BODIES], "1" in wanted


def _checked(path: str | bytes) -> Path:
    if not isinstance(path, str) or not path or "\0" in path or path == ":memory:":
        raise ConfigurationError(f"a journal must be {_KINDS}: one in memory would not outlive a power cut")
    return Path(path)
