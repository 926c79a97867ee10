"""Which handler answers which path.

Paths are matched as they were sent, segment by segment, and decoded after that: so an id can hold an
encoded slash, or anything else.
"""

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Final, Generic, TypeVar
from urllib.parse import unquote_to_bytes

from aiohttp import web
from attrs import field, frozen

from healthmsg.ids import ChatKind
from healthmsg.sandbox.call import ApiError, bad_request

CallT = TypeVar("CallT")

Handler = Callable[[CallT], Awaitable[web.Response]]
Table = Iterable[tuple[str, str, Handler[CallT]]]
"""Method, template and handler; a template can begin with one of `CHATS`."""

CHATS: Final[Mapping[str, Sequence[ChatKind]]] = {
    "{chat}": tuple(ChatKind),
    "{group_chat}": tuple(kind for kind in ChatKind if kind.is_group),
}
"""Which kinds of chat a placeholder stands for."""


@frozen
class Endpoint(Generic[CallT]):
    """One method on one route, for one kind of chat if it has any."""

    method: str
    template: str
    handle: Handler[CallT]
    kind: ChatKind | None = None
    segments: tuple[str, ...] = field(init=False)

    def __attrs_post_init__(self) -> None:
        object.__setattr__(self, "segments", tuple(self.template.split("/")))

    def matches(self, path: tuple[str, ...]) -> bool:
        """Return whether a path is one of this route's."""
        return len(path) == len(self.segments) and all(
            (there and ours.startswith("{")) or there == ours
            for there, ours in zip(path, self.segments, strict=True)
        )

    def ids(self, path: tuple[str, ...]) -> Mapping[str, str]:
        """Return the ids in a path that matches.

        Raises:
            ApiError: one is no UTF-8.
        """
        try:
            return {
                ours.strip("{}"): unquote_to_bytes(there).decode()
                for there, ours in zip(path, self.segments, strict=True)
                if ours.startswith("{")
            }
        except UnicodeDecodeError:
            raise bad_request("The path is not UTF-8.") from None


class Router(Generic[CallT]):
    """A table of endpoints; of those that match a path, the one with fixed segments first wins."""

    def __init__(self, table: Table[CallT]) -> None:
        endpoints = [endpoint for row in table for endpoint in _expanded(*row)]
        endpoints.sort(key=lambda endpoint: [segment.startswith("{") for segment in endpoint.segments])
        self.endpoints: tuple[Endpoint[CallT], ...] = tuple(endpoints)
        self._by_length: dict[tuple[str, int], list[Endpoint[CallT]]] = {}
        for endpoint in endpoints:
            self._by_length.setdefault((endpoint.method, len(endpoint.segments)), []).append(endpoint)

    def find(self, method: str, path: tuple[str, ...]) -> Endpoint[CallT] | None:
        """Return the endpoint for a path."""
        candidates = self._by_length.get((method, len(path)), ())
        return next((endpoint for endpoint in candidates if endpoint.matches(path)), None)

    def refusal(self, path: tuple[str, ...]) -> ApiError:
        """Return the refusal of a path without an endpoint: 405 if another method has one, else 404."""
        methods = sorted({endpoint.method for endpoint in self.endpoints if endpoint.matches(path)})
        if methods:
            allow = {"Allow": ", ".join(methods)}
            return ApiError(
                405, "method_not_allowed", "This can only be called with another method.", headers=allow
            )
        return ApiError(404, "route_not_found", "There is no such call.")


def _expanded(method: str, template: str, handle: Handler[CallT]) -> Iterable[Endpoint[CallT]]:
    start, slash, below = template.partition("/")
    if start not in CHATS:
        yield Endpoint(method, template, handle)
        return
    for kind in CHATS[start]:
        yield Endpoint(method, f"{kind.template}{slash}{below}", handle, kind)
