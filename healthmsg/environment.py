"""Where the service is."""

from __future__ import annotations

import os
from contextlib import suppress
from typing import Any, ClassVar, Final
from urllib.parse import SplitResult, urlsplit

from attrs import Attribute, field, frozen

from healthmsg.errors import ConfigurationError
from healthmsg.validation import require_secure_url

_PORTS: Final = {"https": 443, "http": 80}


def port_of(parts: SplitResult) -> int | None:
    """Return the port that a URL names, or else its scheme's."""
    return parts.port or _PORTS.get(parts.scheme)


def comparable_url(url: str) -> str:
    """Return a URL in the one form that all spellings of the same place have.

    The scheme and the host are in lower case, the host in its ASCII form and without the dot that may end it,
    the scheme's own port and the slashes at the end left out. What the path says stays as it is: only the
    service knows whether case matters there.
    """
    parts = urlsplit(url)
    host = (parts.hostname or "").removesuffix(".")
    # As browsers do. A name that has no ASCII form stays as it is.
    with suppress(UnicodeError):
        host = host.encode("idna").decode("ascii")
    if ":" in host:
        host = f"[{host}]"
    port = parts.port if parts.port not in {None, _PORTS.get(parts.scheme)} else None
    place = host if port is None else f"{host}:{port}"
    return f"{parts.scheme}://{place}{parts.path.rstrip('/')}"


def _secure_http(_: object, attribute: Attribute[Any], url: str | None) -> None:
    if url is not None:
        require_secure_url(attribute.name, url)


def _secure_websocket(_: object, attribute: Attribute[Any], url: str | None) -> None:
    if url is not None:
        require_secure_url(attribute.name, url, scheme="wss")


def _gateway_below(api_url: str) -> str | None:
    is_http = api_url.lower().startswith(("http://", "https://"))
    return f"ws{api_url[len('http') :].rstrip('/')}/gateway" if is_http else None


def _bare(url: str) -> str:
    if not isinstance(url, str) or "?" in url or "#" in url:
        raise ConfigurationError("api_url must be a URL with neither a query nor a fragment")
    return url.rstrip("/")


@frozen
class Environment:
    """The URLs of one installation of the service. Contract: "Hosts".

    `api_url` is the REST base. `authorize_url` and `token_url` are needed for signing in and for renewing
    tokens, `gateway_url` for live events.

    Raises:
        ConfigurationError: a URL is not absolute, or is not encrypted and not on loopback.
    """

    ALTERDESK: ClassVar[Environment]
    """The Alterdesk platform: REST [V], OAuth and gateway [D]."""

    name: str
    api_url: str = field(converter=_bare, validator=_secure_http)
    authorize_url: str | None = field(default=None, validator=_secure_http)
    token_url: str | None = field(default=None, validator=_secure_http)
    gateway_url: str | None = field(default=None, validator=_secure_websocket)

    @classmethod
    def kpn(
        cls,
        authorize_url: str | None = None,
        token_url: str | None = None,
        gateway_url: str | None = None,
    ) -> Environment:
        """Return KPN's production service [D]. Its other URLs are not published: KPN gives them to you."""
        return cls(
            "kpn",
            "https://api-prd.kpn.com/communication/kpn/healthcare-messenger",
            authorize_url,
            token_url,
            gateway_url,
        )

    @classmethod
    def from_env(cls) -> Environment:
        """Return the service that `HEALTHMSG_API_URL` or `HEALTHMSG_ENVIRONMENT` (`kpn`, `alterdesk`) names.

        `HEALTHMSG_GATEWAY_URL` is where live events come from, which KPN gives to you. Without it, that of
        `HEALTHMSG_API_URL` is `gateway` below it, as with Alterdesk [D] and a sandbox.

        Raises:
            ConfigurationError: a variable is missing or unusable, or both are set, of which one may have been
                forgotten; it names the variable.
        """
        api_url = os.environ.get("HEALTHMSG_API_URL", "").strip()
        name = os.environ.get("HEALTHMSG_ENVIRONMENT", "").strip().lower()
        if api_url and name:
            raise ConfigurationError(
                "HEALTHMSG_API_URL and HEALTHMSG_ENVIRONMENT are both set, and name one service each: unset"
                " one"
            )
        gateway_url = os.environ.get("HEALTHMSG_GATEWAY_URL", "").strip() or None
        if api_url:
            return cls("from HEALTHMSG_API_URL", api_url, gateway_url=gateway_url or _gateway_below(api_url))
        if name == "kpn":
            return cls.kpn(gateway_url=gateway_url)
        if name == "alterdesk" and gateway_url is not None:
            raise ConfigurationError("HEALTHMSG_GATEWAY_URL must not be set for alterdesk, whose is known")
        if name == "alterdesk":
            return cls.ALTERDESK
        raise ConfigurationError(
            "HEALTHMSG_ENVIRONMENT must be kpn or alterdesk, or HEALTHMSG_API_URL be set"
        )


Environment.ALTERDESK = Environment(
    "alterdesk",
    "https://api.alterdesk.com/v1",
    "https://im.alterdesk.com/oauth/authorize",
    "https://im.alterdesk.com/oauth/token",
    "wss://api.alterdesk.com/v1/gateway",
)
