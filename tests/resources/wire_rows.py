"""What a row of the table of calls is: a call of the SDK, and what it must send."""

import json
from collections.abc import Callable, Mapping
from inspect import isawaitable
from pathlib import Path
from typing import Any, Final

from attrs import evolve, frozen

from healthmsg import Client
from healthmsg.downloads.download import FileStream
from healthmsg.paging import Pager
from healthmsg.task_pool import BulkRun
from tests.foreign_host import Part, Seen

BASE: Final = "/v1"
HERE: Final = object()
"""Stands for a file of the test's own."""


@frozen
class Id:
    """An id, and the segment of a path that it must become."""

    raw: Any
    segment: str = ""


@frozen
class Sending:
    """One request that must be sent, and how it is answered."""

    method: str
    target: str
    body: str | tuple[Part, ...] | None
    status: int
    answer: bytes


@frozen
class Row:
    """A call of the SDK, and what it must send."""

    at: Callable[[Client], Any]
    method: str
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    sendings: tuple[Sending, ...] = ()

    def sends(
        self,
        method: str,
        path: str,
        query: str = "",
        *,
        document: object = None,
        parts: tuple[Part, ...] | None = None,
        status: int = 200,
        answer: object = {"id": "n1"},
    ) -> "Row":
        target = f"{BASE}/{path}?{query}" if query else f"{BASE}/{path}"
        body = parts if document is None else canonical(document)
        sending = Sending(method, target, body, status, json.dumps(answer).encode())
        return evolve(self, sendings=(*self.sendings, sending))

    @property
    def changes(self) -> bool:
        """Whether it creates or changes something."""
        return self.sendings[-1].method != "GET"

    async def call(self, client: Client, folder: Path) -> Any:
        kwargs = {key: folder / "file" if value is HERE else value for key, value in self.kwargs.items()}
        result = getattr(self.at(client), self.method)(*self.args, **kwargs)
        if isinstance(result, Pager):
            return await result.first_page()
        if isinstance(result, BulkRun):
            return await result.all()
        if isinstance(result, FileStream):
            return b"".join([chunk async for chunk in result])
        assert isawaitable(result)
        return await result


def row(at: Callable[[Client], Any], method: str, *args: Any, **kwargs: Any) -> Row:
    return Row(at, method, args, kwargs)


def canonical(document: object) -> str:
    """Write JSON so that equal documents are equal text: `1` is not `true`."""
    return json.dumps(document, sort_keys=True, default=repr)


def sent(seen: Seen) -> tuple[str, str, object]:
    """Say what was sent, in a form that can be compared with a `Sending`."""
    if not seen.body:
        assert "Content-Type" not in seen.headers
        return seen.method, seen.path, None
    if seen.headers["Content-Type"].startswith("multipart/"):
        return seen.method, seen.path, tuple(seen.parts)
    return seen.method, seen.path, canonical(seen.document)
