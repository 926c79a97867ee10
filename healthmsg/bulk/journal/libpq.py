"""The options of a PostgreSQL URL, as libpq and everything built on it know them, for asyncpg.

asyncpg knows those about TLS in a connection string only, and takes what it does not know for a setting of
the server. So each is checked here, and a setting that cannot be kept is refused: a connection that was to be
verified and is not would not show it.
"""

import os
import ssl
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlencode

from healthmsg.errors import ConfigurationError, JournalError

# As SQLAlchemy takes them out of a URL.
_PLACE: Final = frozenset({"host", "port", "user", "password", "database"})
_FILES: Final = ("sslrootcert", "sslcert", "sslkey", "sslcrl")
_SYSTEM: Final = "system"
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
    {*_FILES, "sslpassword", "passfile", "krbsrvname", "gsslib", "application_name", "options"}
)
_OF_TLS: Final = (*_FILES, "sslmode", "sslpassword", "ssl_min_protocol_version", "ssl_max_protocol_version")
# Other names for the same.
_ALIASES: Final = {"ssl": "sslmode", "dbname": "database"}
# What asyncpg cannot do: these values ask for nothing of it.
_NOTHING_ASKED: Final = {
    "channel_binding": ("disable", "prefer"),
    "gssencmode": ("disable", "prefer"),
    "client_encoding": ("utf8", "UTF8", "utf-8", "UTF-8", "auto"),
}
_UNKNOWN: Final = (
    "an option is not known. It takes those of libpq, such as sslmode, sslrootcert and connect_timeout; a `?`"
    " in a password is written %3F"
)
_NOT_WITH_ASYNCPG: Final = {
    "channel_binding": f"leave it out; sslmode={_VERIFY_FULL} protects from the same",
    "gssencmode": f"leave it out; sslmode={_VERIFY_FULL} encrypts too",
    "client_encoding": "leave it out: texts are UTF-8",
}
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
        if name in _NOTHING_ASKED:
            _require_nothing(name, value)
            continue
        if name in found:
            raise ConfigurationError(f"the journal's URL has the option {name} more than once")
        problem = _what_is_wrong(name, value)
        if problem:
            raise ConfigurationError(f"the journal's URL: {problem}")
        found[name] = value
    if found.get("sslrootcert") == _SYSTEM and found.setdefault("sslmode", _VERIFY_FULL) != _VERIFY_FULL:
        raise ConfigurationError(f"the journal's URL: sslrootcert=system needs sslmode={_VERIFY_FULL}")
    return found


def _what_is_wrong(name: str, value: str) -> str:
    if name in _CHOICES:
        return "" if value in _CHOICES[name] else f"{name} must be one of {', '.join(_CHOICES[name])}"
    if name == "connect_timeout":
        return "" if value.isascii() and value.isdigit() else "connect_timeout must be whole seconds"
    if name not in _PLACE | _OTHER_TEXT:
        # Not itself: where a password has a `?` in it, that may be the rest of it.
        likely = get_close_matches(name, _CHOICES.keys() | _OTHER_TEXT | _PLACE, 1)
        return f"an option is not known; did you mean {likely[0]}?" if likely else _UNKNOWN
    return "" if value else f"the option {name} is empty"


def _require_nothing(name: str, value: str) -> None:
    if value not in _NOTHING_ASKED[name]:
        raise ConfigurationError(
            f"the journal's URL: {name} is not possible so with asyncpg: {_NOT_WITH_ASYNCPG[name]}"
        )


def place_of(options: Mapping[str, str]) -> dict[str, str]:
    """Return what SQLAlchemy is to take from the URL: where the database is, and who asks."""
    return {name: value for name, value in options.items() if name in _PLACE}


def arguments_of(options: Mapping[str, str]) -> dict[str, Any]:
    """Return the further arguments of `asyncpg.connect`. Blocks: it looks at the files that are named.

    Raises:
        JournalError: a file cannot be read, or it is not said which certificates to trust.
    """
    arguments: dict[str, Any] = {
        name: options[name]
        for name in ("target_session_attrs", "passfile", "krbsrvname", "gsslib")
        if name in options
    }
    if timeout := int(options.get("connect_timeout", 0)):
        arguments["timeout"] = timeout
    if "sslnegotiation" in options:
        arguments["direct_tls"] = options["sslnegotiation"] == "direct"
    settings = {name: options[name] for name in ("application_name", "options") if name in options}
    if settings:
        arguments["server_settings"] = settings
    return arguments | _tls(options)


def _tls(options: Mapping[str, str]) -> dict[str, Any]:
    tls: dict[str, str] = {name: options[name] for name in _OF_TLS if name in options}
    for name in _FILES:
        if name in tls and tls[name] != _SYSTEM:
            tls[name] = _readable(name, tls[name])
    if tls.get("sslmode", "").startswith("verify-") and not _is_trust_known(tls):
        raise JournalError(
            f"The journal could not be opened: sslmode={tls['sslmode']} needs an authority to trust."
            " Add `sslrootcert=` with the file of the authority's certificate, or `sslrootcert=system`."
        )
    if tls.get("sslrootcert") == _SYSTEM:
        return {"ssl": _trusting_the_system(tls)}
    return {"dsn": f"postgresql://?{urlencode(tls)}"} if tls else {}


def _is_trust_known(tls: dict[str, str]) -> bool:
    if "sslrootcert" in tls or os.environ.get("PGSSLROOTCERT"):
        return True
    return Path("~/.postgresql/root.crt").expanduser().exists()


def _trusting_the_system(tls: dict[str, str]) -> ssl.SSLContext:
    """Make what asyncpg has no word for: the certificates that the operating system trusts."""
    context = ssl.create_default_context()
    if "sslcert" in tls:
        context.load_cert_chain(tls["sslcert"], tls.get("sslkey"), lambda: tls.get("sslpassword", ""))
    if "sslcrl" in tls:
        context.load_verify_locations(cafile=tls["sslcrl"])
        context.verify_flags |= ssl.VERIFY_CRL_CHECK_CHAIN
    for name, bound in (("ssl_min_protocol_version", "minimum"), ("ssl_max_protocol_version", "maximum")):
        if name in tls:
            setattr(context, f"{bound}_version", ssl.TLSVersion[tls[name].replace(".", "_")])
    return context


def _readable(name: str, file: str) -> str:
    path = Path(file).expanduser()
    try:
        with path.open("rb"):
            return str(path)
    except OSError as error:
        problem = error.strerror or type(error).__name__
    raise JournalError(f"The journal could not be opened: the file of `{name}` cannot be read: {problem}.")
