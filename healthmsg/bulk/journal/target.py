"""Where a journal is: a file, or a PostgreSQL database."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final
from urllib.parse import parse_qsl

from attrs import field, frozen

from healthmsg.bulk.journal import libpq
from healthmsg.errors import ConfigurationError

_KEEP_BODIES: Final = "keep_bodies"
_POOL_MODE: Final = "pool_mode"
_ACCEPT_MISSING_WAL: Final = "accept_missing_wal"
_KINDS: Final = "a path, sqlite:///… or postgresql+asyncpg://…"
_SQLITE: Final = ("sqlite+aiosqlite:///", "sqlite:///")
_POSTGRESQL: Final = ("postgresql+asyncpg://", "postgresql://", "postgres://")


@frozen
class Target:
    """Where a journal is, whether it keeps what delivered messages said, and what of it may be missing."""

    path: Path | None
    """Of an SQLite file."""
    url: str | None = field(repr=False)
    """Of a PostgreSQL database, without its options; it may have a password in it."""
    keep_bodies: bool = False
    accepts_missing_wal: bool = False
    """Whether to go on without the `-wal` file of a run that was not ended in order."""
    is_pooled_by_session: bool = False
    """Whether a pooler may be in between, since it keeps one connection for each session."""
    options: Mapping[str, str] = field(factory=dict, repr=False)
    """Those of the database's URL, by libpq's names."""

    @classmethod
    def parse(cls, target: str | os.PathLike[str]) -> "Target":
        """Read what a user gives. A `Path` is taken as it is; text may end with options.

        These are `?keep_bodies=1`, and of a file `?accept_missing_wal=1`: see `JournalIncompleteError`. A
        database may have `?pool_mode=session`: a pooler in between, such as PgBouncer, keeps one connection
        for each session. Besides, it takes the options of libpq, such as `sslmode` and `sslrootcert`.

        A file's name may have a `?` in it: only what follows the last one, if it is made of these options, is
        options, and not even that is if there is a file of exactly this name. What else looks like an option
        is refused, since it may be a slip. Of text that ends with `?keep_bodies=0`, all before that is the
        name.

        Raises:
            ConfigurationError: it is neither a file nor a PostgreSQL database.
        """
        if not isinstance(target, str):
            return cls(_checked(os.fspath(target)), None)
        for start in _POSTGRESQL:
            if target.startswith(start):
                return cls._database(target.removeprefix(start))
        for start in _SQLITE:
            if target.startswith(start):
                return cls._file(target.removeprefix(start))
        if "://" in target:
            raise ConfigurationError(f"a journal must be {_KINDS}")
        return cls._file(target)

    @classmethod
    def _database(cls, text: str) -> "Target":
        place, _, query = text.partition("?")
        options = parse_qsl(query, keep_blank_values=True)
        keep_bodies = _take_flag(options, _KEEP_BODIES)
        is_pooled = _take(options, _POOL_MODE, {"session"}) == "session"
        return cls(
            None,
            f"{_POSTGRESQL[0]}{place}",
            keep_bodies,
            is_pooled_by_session=is_pooled,
            options=libpq.read_options(options),
        )

    @classmethod
    def _file(cls, text: str) -> "Target":
        """Tell a file's name from the options that may follow it."""
        name, _, query = parts = text.rpartition("?")
        # `os.path.exists`, unlike that of a path, takes every error for a no.
        if not _looks_like_option(parts) or os.path.exists(text):  # noqa: PTH110
            return cls(_checked(text), None)
        options = parse_qsl(query, keep_blank_values=True)
        known = {(name, value) for name in (_KEEP_BODIES, _ACCEPT_MISSING_WAL) for value in ("0", "1")}
        if not options or not known.issuperset(options):
            # SQLite's own would let one switch off locks or syncing.
            raise ConfigurationError(
                f"a journal in a file knows no other options than {_KEEP_BODIES} and {_ACCEPT_MISSING_WAL};"
                f" if this is part of its name, end it with ?{_KEEP_BODIES}=0"
            )
        keep_bodies = _take_flag(options, _KEEP_BODIES)
        return cls(_checked(name), None, keep_bodies, _take_flag(options, _ACCEPT_MISSING_WAL))


def text_of(path: Path, *, keep_bodies: bool = False, accepts_missing_wal: bool = False) -> str:
    """Return the text that `Target.parse` reads as this file."""
    text = str(path)
    wanted = ((_KEEP_BODIES, keep_bodies), (_ACCEPT_MISSING_WAL, accepts_missing_wal))
    if options := [f"{name}=1" for name, is_wanted in wanted if is_wanted]:
        return f"{text}?{'&'.join(options)}"
    return f"{text}?{_KEEP_BODIES}=0" if _looks_like_option(text.rpartition("?")) else text


def _looks_like_option(parts: tuple[str, str, str]) -> bool:
    return bool(parts[1]) and ("=" in parts[2] or _KEEP_BODIES in parts[2])


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
