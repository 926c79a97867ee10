"""Where a journal is: a file, or a PostgreSQL database."""

import os
from pathlib import Path
from typing import Final
from urllib.parse import parse_qsl, urlencode

from attrs import field, frozen

from healthmsg.errors import ConfigurationError

_KEEP_BODIES: Final = "keep_bodies"
_POOL_MODE: Final = "pool_mode"
_ACCEPT_MISSING_WAL: Final = "accept_missing_wal"
_KINDS: Final = "a path, sqlite:///… or postgresql+asyncpg://…"
_SQLITE: Final = ("sqlite+aiosqlite:///", "sqlite:///")
_POSTGRESQL: Final = ("postgresql+asyncpg://", "postgresql://")


@frozen
class Target:
    """Where a journal is, whether it keeps what delivered messages said, and what of it may be missing."""

    path: Path | None
    """Of an SQLite file."""
    url: str | None = field(repr=False)
    """Of a PostgreSQL database; it may have a password in it."""
    keep_bodies: bool = False
    accepts_missing_wal: bool = False
    """Whether to go on without the `-wal` file of a run that was not ended in order."""
    is_pooled_by_session: bool = False
    """Whether a pooler may be in between, since it keeps one connection for each session."""

    @classmethod
    def parse(cls, target: str | os.PathLike[str]) -> "Target":
        """Read what a user gives. A `Path` is taken as it is; text may end with `?keep_bodies=1`.

        A file may also have `?accept_missing_wal=1`: see `JournalIncompleteError`. A database may have
        `?pool_mode=session`: a pooler in between, such as PgBouncer, keeps one connection for each session.

        Raises:
            ConfigurationError: it is neither a file nor a PostgreSQL database.
        """
        if not isinstance(target, str):
            return cls(_checked(os.fspath(target)), None)
        place, _, query = target.partition("?")
        options = parse_qsl(query, keep_blank_values=True)
        keep_bodies = _take_flag(options, _KEEP_BODIES)
        for start in _POSTGRESQL:
            if place.startswith(start):
                is_pooled = _take(options, _POOL_MODE, {"session"}) == "session"
                rest = place.removeprefix(start)
                query = f"?{urlencode(options)}" if options else ""
                url = f"{_POSTGRESQL[0]}{rest}{query}"
                return cls(None, url, keep_bodies, is_pooled_by_session=is_pooled)
        accepts_missing_wal = _take_flag(options, _ACCEPT_MISSING_WAL)
        if options:
            # SQLite's own would let one switch off locks or syncing.
            known = f"{_KEEP_BODIES} and {_ACCEPT_MISSING_WAL}"
            raise ConfigurationError(f"a journal in a file knows no other options than {known}")
        for start in _SQLITE:
            if place.startswith(start):
                place = place.removeprefix(start)
                break
        else:
            if "://" in place:
                raise ConfigurationError(f"a journal must be {_KINDS}")
        return cls(_checked(place), None, keep_bodies, accepts_missing_wal)


def _take_flag(options: list[tuple[str, str]], name: str) -> bool:
    return _take(options, name, {"0", "1"}) == "1"


def _take(options: list[tuple[str, str]], name: str, known: set[str]) -> str | None:
    """Take an option out, and return its value."""
    values = {value for option, value in options if option == name}
    if not values <= known or len(values) > 1:
        raise ConfigurationError(f"{name} must be {' or '.join(sorted(known))}")
    options[:] = [option for option in options if option[0] != name]
    return values.pop() if values else None


def _checked(path: str | bytes) -> Path:
    if not isinstance(path, str) or not path or "\0" in path or path == ":memory:":
        raise ConfigurationError(f"a journal must be {_KINDS}: one in memory would not outlive a power cut")
    return Path(path)
