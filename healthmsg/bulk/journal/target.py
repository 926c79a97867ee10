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

        A file's name may have a `?` in it: only a last `?keep_bodies=0` or `?keep_bodies=1` is an option, and
        not even that is if there is a file of exactly this name. What else looks like an option is refused,
        since it may be a slip. Of text that ends with `?keep_bodies=0`, all before that is the name.

        Raises:
            ConfigurationError: it is neither a file nor a PostgreSQL database.
        """
        if not isinstance(target, str):
            return cls(_checked(os.fspath(target)), None)
        for start in _POSTGRESQL:
            if target.startswith(start):
                place, options, keep_bodies = _without_keep_bodies(target)
                rest = place.removeprefix(start)
                query = f"?{urlencode(options)}" if options else ""
                return cls(None, f"{_POSTGRESQL[0]}{rest}{query}", keep_bodies)
        for start in _SQLITE:
            if target.startswith(start):
                return cls(*_file(target.removeprefix(start)))
        if "://" in target:
            raise ConfigurationError(f"a journal must be {_KINDS}")
        return cls(*_file(target))


def text_of(path: Path, *, keep_bodies: bool = False) -> str:
    """Return the text that `Target.parse` reads as this file."""
    text = str(path)
    if keep_bodies:
        return f"{text}?{_KEEP_BODIES}=1"
    return f"{text}?{_KEEP_BODIES}=0" if _looks_like_option(text.rpartition("?")) else text


def _looks_like_option(parts: tuple[str, str, str]) -> bool:
    return bool(parts[1]) and ("=" in parts[2] or _KEEP_BODIES in parts[2])


def _file(text: str) -> tuple[Path, None, bool]:
    """Tell a file's name from the option that may follow it."""
    parts = text.rpartition("?")
    # `os.path.exists`, unlike that of a path, takes every error for a no.
    if not _looks_like_option(parts) or os.path.exists(text):  # noqa: PTH110
        return _checked(text), None, False
    if parts[2] not in {f"{_KEEP_BODIES}=0", f"{_KEEP_BODIES}=1"}:
        # SQLite's own would let one switch off locks or syncing.
        raise ConfigurationError(
            f"a journal in a file knows no other option than ?{_KEEP_BODIES}=0 or 1; if this is part of its"
            f" name, end it with ?{_KEEP_BODIES}=0"
        )
    return _checked(parts[0]), None, parts[2].endswith("1")


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
