"""The network's settings: which proxy, whose certificates are trusted, what the environment says."""

import asyncio
import re
from contextlib import suppress
from ipaddress import ip_address, ip_network
from os import PathLike
from ssl import CERT_REQUIRED, VERIFY_X509_STRICT, SSLContext, SSLError, create_default_context
from typing import Final

from attrs import field, frozen
from yarl import URL

from healthmsg.errors import ConfigurationError
from healthmsg.validation import check_proxy, true_or_false


def _trusting(ssl: object) -> SSLContext | None:
    """Return TLS settings, made of a file with certificates if that is what was given."""
    if ssl is None:
        return None
    if isinstance(ssl, SSLContext):
        if ssl.verify_mode is CERT_REQUIRED and ssl.check_hostname:
            return ssl
        raise ConfigurationError("ssl must verify certificates and host names")
    if not isinstance(ssl, str | PathLike):
        raise ConfigurationError("ssl must be an SSLContext or the path of a file with trusted certificates")
    return _context_of(ssl, "ssl")


def _context_of(path: str | PathLike[str] | None, name: str) -> SSLContext:
    try:
        return create_default_context(cafile=path)
    except (OSError, SSLError, ValueError):
        pass
    raise ConfigurationError(
        f"{name} names a file that cannot be read, or that has no certificates in PEM form"
    )


def trusting_context(
    path: str | PathLike[str] | None, *, is_strict: bool = True, name: str = "ssl"
) -> SSLContext:
    """Return TLS settings that trust the certificates in a file, or the system's, and verify everything.

    Without `is_strict`, also certificates that do not keep to RFC 5280, as all of Python before 3.13 does.

    Raises:
        ConfigurationError: the file has no certificates, or cannot be read; `name` is how it was given.
    """
    context = _context_of(path, name)
    if not is_strict:
        context.verify_flags &= ~VERIFY_X509_STRICT
    return context


@frozen
class Network:
    """The network settings that a client and an `OAuthApp` share.

    Raises:
        ConfigurationError: a setting that cannot work, or that would trust any server.
    """

    proxy: URL | None = field(default=None, converter=check_proxy, repr=False)
    ssl: SSLContext | None = field(default=None, converter=_trusting, repr=False)
    trust_env: bool = field(default=False, validator=true_or_false)


class EnvironmentProxies:
    """The proxy that the environment variables name for https, or the system where there are none.

    Plain http stays on this machine (see `Environment`) and needs no proxy, so `HTTP_PROXY` is not read.

    Raises:
        ConfigurationError: it cannot be used.
    """

    def __init__(self) -> None:
        # Imported when first used: it is heavy, and rarely wanted.
        from urllib.request import getproxies  # noqa: PLC0415 - see above

        proxies = getproxies()
        url = proxies.get("https") or proxies.get("all")
        name = "HTTPS_PROXY" if proxies.get("https") else "ALL_PROXY"
        self._proxy: URL | None = check_proxy(_with_scheme(url), name) if url else None
        self._known: dict[str, URL | None] = {}

    async def proxy_for(self, scheme: str, authority: str) -> URL | None:
        """Return the proxy for a host; `None` if it is to be reached without one."""
        if self._proxy is None or scheme != "https":
            return None
        if authority not in self._known:
            # In a thread, since reading the system's own settings may ask the network.
            is_direct = await asyncio.to_thread(_is_excepted, authority)
            self._known[authority] = None if is_direct else self._proxy
        return self._known[authority]


def _is_excepted(authority: str) -> bool:
    from urllib.request import getproxies_environment, proxy_bypass  # noqa: PLC0415 - as above

    no_proxy = getproxies_environment().get("no", "")
    return matches_no_proxy(authority, no_proxy) or bool(proxy_bypass(authority))


def matches_no_proxy(authority: str, no_proxy: str) -> bool:
    """Return whether `NO_PROXY` names a host with its port.

    Python's own function knows names (with all below them) and `*`. This one also knows addresses, networks
    (`10.0.0.0/8`), `[::1]:443`, `*.example`, and blanks for commas, as curl and others do. No name is looked
    up.
    """
    url = URL(f"https://{authority}")
    hosts = {(host or "").lower().removesuffix(".") for host in (url.host, url.raw_host)}
    entries = re.split(r"[,\s]+", no_proxy.lower())
    return any(_names(entry, host, url.port) for entry in entries for host in hosts)


_PORT: Final = re.compile(r"(?P<name>\[.*\]|[^:]*):(?P<port>\d+)")


def _names(entry: str, host: str, port: int | None) -> bool:
    if with_port := _PORT.fullmatch(entry):
        entry = with_port["name"]
        if int(with_port["port"]) != port:
            return False
    entry = entry.strip("[]")
    if not entry or entry == "*":
        return bool(entry)
    with suppress(ValueError):
        return ip_address(host) in ip_network(entry, strict=False)
    name = entry.removeprefix("*").strip(".")
    return bool(name) and f".{host}".endswith(f".{name}")


def _with_scheme(url: str) -> str:
    """Complete a URL that is, as many write it, a host and a port only."""
    return url if "://" in url else f"http://{url}"
