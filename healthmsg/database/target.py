"""Where a journal is: a file, or a PostgreSQL database, and the options that its text can end with.

A PostgreSQL URL takes the options of libpq, as everything built on that does. asyncpg knows those about TLS
in a connection string only, and takes what it does not know for a setting of the server. So each is checked
here, and a setting that cannot be kept is refused: a connection that was to be verified and is not would not
show it.
"""

import os
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from importlib import import_module
from pathlib import Path
from typing import Final
from urllib.parse import parse_qsl

from attrs import field, frozen

from healthmsg.errors import ConfigurationError

_KEEP_BODIES: Final = "keep_bodies"
_POOL_MODE: Final = "pool_mode"
_ACCEPT_MISSING_WAL: Final = "accept_missing_wal"
_KINDS: Final = "a path, sqlite:///… or postgresql+asyncpg://…"
_SQLITE: Final = ("sqlite+aiosqlite:///", "sqlite:///")
POSTGRESQL: Final = ("postgresql+asyncpg://", "postgresql://", "postgres://")
"""How the URL of a PostgreSQL database may begin."""
# As SQLAlchemy takes them out of a URL.
_PLACE: Final = frozenset({"host", "port", "user", "password", "database"})
FILES: Final = ("sslrootcert", "sslcert", "sslkey", "sslcrl")
SYSTEM: Final = "system"
_VERIFY_FULL: Final = "verify-full"
_TLS_VERSIONS: Final = ("TLSv1", "TLSv1.1", "TLSv1.2", "TLSv1.3")
_CHOICES: Final = {
    "sslmode": ("disable", "allow", "prefer", "require", "verify-ca", _VERIFY_FULL),
    "sslnegotiation": ("postgres", "direct"),
    "ssl_min_protocol_version": _TLS_VERSIONS,
    "ssl_max_protocol_version": _TLS_VERSIONS,
    "target_session_attrs": ("any", "read-write", "primary"),
}
_OTHER_TEXT: Final = frozenset(
    {*FILES, "sslpassword", "passfile", "krbsrvname", "gsslib", "application_name", "options"}
)
OF_TLS: Final = (*FILES, "sslmode", "sslpassword", "ssl_min_protocol_version", "ssl_max_protocol_version")
# Other names for the same.
_ALIASES: Final = {"ssl": "sslmode", "dbname": "database"}
# What asyncpg cannot do: the values that ask for nothing of it, and what to do instead.
_NOT_WITH_ASYNCPG: Final = {
    "channel_binding": (
        ("disable", "prefer"),
        f"leave it out; sslmode={_VERIFY_FULL} protects from the same",
    ),
    "gssencmode": (("disable", "prefer"), f"leave it out; sslmode={_VERIFY_FULL} encrypts too"),
    "client_encoding": (("utf8", "UTF8", "utf-8", "UTF-8", "auto"), "leave it out: texts are UTF-8"),
}
_UNKNOWN: Final = (
    "an option is not known. It takes those of libpq, such as sslmode, sslrootcert and connect_timeout; a `?`"
    " in a password is written %3F"
)
SECRET: Final = frozenset({"password", "sslpassword"})
"""Options that are passwords."""


def read_options(options: Sequence[tuple[str, str]]) -> dict[str, str]:
    """Check the options of a URL, and return them by libpq's names.

    Raises:
        ConfigurationError: one is unknown, is given twice, or has a value that cannot be kept to.
    """
    found: dict[str, str] = {}
    for given, value in options:
        name = _ALIASES.get(given, given)
        if name in found:
            raise ConfigurationError(f"the journal's URL has the option {name} more than once")
        if problem := _what_is_wrong(name, value):
            raise ConfigurationError(f"the journal's URL: {problem}")
        if name not in _NOT_WITH_ASYNCPG:
            found[name] = value
    if found.get("sslrootcert") == SYSTEM and found.setdefault("sslmode", _VERIFY_FULL) != _VERIFY_FULL:
        raise ConfigurationError(f"the journal's URL: sslrootcert=system needs sslmode={_VERIFY_FULL}")
    return found


def _what_is_wrong(name: str, value: str) -> str:
    if name in _NOT_WITH_ASYNCPG:
        harmless, advice = _NOT_WITH_ASYNCPG[name]
        return "" if value in harmless else f"{name} is not possible so with asyncpg: {advice}"
    if name in _CHOICES:
        return "" if value in _CHOICES[name] else f"{name} must be one of {', '.join(_CHOICES[name])}"
    if name == "connect_timeout":
        return "" if value.isascii() and value.isdigit() else "connect_timeout must be whole seconds"
    if name not in _PLACE | _OTHER_TEXT:
        # Not itself: where a password has a `?` in it, that may be the rest of it.
        likely = get_close_matches(name, _CHOICES.keys() | _OTHER_TEXT | _PLACE, 1)
        return f"an option is not known; did you mean {likely[0]}?" if likely else _UNKNOWN
    return "" if value else f"the option {name} is empty"


def place_of(options: Mapping[str, str]) -> dict[str, str]:
    """Return what SQLAlchemy is to take from the URL: where the database is, and who asks."""
    return {name: value for name, value in options.items() if name in _PLACE}


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
        for start in POSTGRESQL:
            if target.startswith(start):
                return cls._database(target.removeprefix(start))
        for start in _SQLITE:
            if target.startswith(start):
                return cls._file(target.removeprefix(start))
        if "://" in target:
            raise ConfigurationError(f"a journal must be {_KINDS}")
        return cls._file(target)

    def import_for(self, *modules: str) -> str | None:
        """Import these and what connects; return the name of a package that is not installed. Blocks."""
        connecting = "healthmsg.database.postgresql" if self.path is None else "healthmsg.database.sqlite"
        try:
            for module in (*modules, connecting):
                import_module(module)
        except ModuleNotFoundError as error:
            return error.name
        return None

    def extra_for(self, missing: str) -> str:
        """Return the extra that brings a package which `import_for` has missed."""
        return "bulk" if self.path is not None or missing == "filelock" else "postgresql"

    @classmethod
    def _database(cls, text: str) -> "Target":
        place, _, query = text.partition("?")
        options = parse_qsl(query, keep_blank_values=True)
        keep_bodies = _take_flag(options, _KEEP_BODIES)
        is_pooled = _take(options, _POOL_MODE, {"session"}) == "session"
        return cls(
            None,
            f"{POSTGRESQL[0]}{place}",
            keep_bodies,
            is_pooled_by_session=is_pooled,
            options=read_options(options),
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
