"""The network's settings: which proxy, whose certificates are trusted, what the environment says."""

import asyncio
from collections.abc import Mapping
from os import PathLike
from ssl import CERT_REQUIRED, SSLContext, SSLError, create_default_context
from typing import Final

from attrs import field, frozen
from yarl import URL

from healthmsg.errors import ConfigurationError

_SCHEMES: Final = frozenset({"http", "https"})


def _checked_proxy(proxy: object, name: str = "proxy") -> URL | None:
    """Refuse what is no proxy's URL. The message repeats none of it: it may hold a password."""
    if proxy is None:
        return None
    try:
        text = proxy if isinstance(proxy, str) and _is_plain(proxy) else ""
        url = URL(text)
        # The encoding in which they are sent.
        f"{url.user}{url.password}".encode("latin-1")
    except ValueError:
        url = URL()
    if url.scheme in _SCHEMES and url.host and url.port and url.path_qs in {"", "/"} and not url.fragment:
        return url
    raise ConfigurationError(f"{name} must be a URL such as http://user:password@host:3128")


def _is_plain(text: str) -> bool:
    return text.isascii() and text.isprintable() and " " not in text


def _trusting(ssl: object) -> SSLContext | None:
    """Make the TLS settings of a file with certificates, and refuse settings that trust anybody."""
    if ssl is None:
        return None
    if isinstance(ssl, SSLContext):
        if ssl.verify_mode is CERT_REQUIRED and ssl.check_hostname:
            return ssl
        raise ConfigurationError("ssl must verify certificates and host names")
    if not isinstance(ssl, str | PathLike):
        raise ConfigurationError("ssl must be an SSLContext or the path of a file with trusted certificates")
    try:
        return create_default_context(cafile=ssl)
    except (OSError, SSLError, ValueError):
        pass
    raise ConfigurationError("ssl names a file that cannot be read, or that has no certificates in PEM form")


def _flag(value: object) -> bool:
    if isinstance(value, bool):
        return value
    raise ConfigurationError("trust_env must be True or False")


@frozen
class Network:
    """The network settings that a client and an `OAuthApp` share.

    Raises:
        ConfigurationError: a setting that cannot work, or that would trust anybody.
    """

    proxy: URL | None = field(default=None, converter=_checked_proxy, repr=False)
    ssl: SSLContext | None = field(default=None, converter=_trusting, repr=False)
    trust_env: bool = field(default=False, converter=_flag)


class EnvironmentProxies:
    """The proxies that the environment variables name, or the system where there are none.

    Raises:
        ConfigurationError: one of them cannot be used.
    """

    def __init__(self) -> None:
        # Imported when first used: it is heavy, and rarely wanted.
        from urllib.request import getproxies  # noqa: PLC0415 - see above

        self._proxies: Mapping[str, URL | None] = {
            scheme: _checked_proxy(_with_scheme(url), f"the environment's {scheme} proxy")
            for scheme, url in getproxies().items()
            if scheme in _SCHEMES
        }
        self._known: dict[tuple[str, str], URL | None] = {}

    async def proxy_for(self, scheme: str, authority: str) -> URL | None:
        """Give the proxy for a host, unless it is one that is to be reached without."""
        key = (scheme, authority)
        if key not in self._known:
            self._known[key] = await self._look_up(scheme, authority)
        return self._known[key]

    async def _look_up(self, scheme: str, authority: str) -> URL | None:
        from urllib.request import proxy_bypass  # noqa: PLC0415 - see above

        proxy = self._proxies.get(scheme)
        # In a thread: where the system's own settings count, it may ask the network.
        if proxy is None or await asyncio.to_thread(proxy_bypass, authority):
            return None
        return proxy


def _with_scheme(url: str) -> str:
    """Complete what many write, a host and a port only."""
    return url if "://" in url else f"http://{url}"
