"""What the sandbox answers with."""

from collections.abc import Mapping
from math import ceil

from aiohttp import web

from healthmsg.codec import encode


class ApiError(Exception):
    """A call that is refused. Its body's shape is assumed [A]: a code word and a sentence."""

    def __init__(
        self, status: int, error: str, message: str, *, headers: Mapping[str, str] | None = None
    ) -> None:
        self.status = status
        self.error = error
        self.message = message
        self.headers: Mapping[str, str] = headers or {}
        super().__init__(error)

    def answer(self) -> web.Response:
        """Give the answer that says so."""
        return json_answer(
            {"error": self.error, "message": self.message}, status=self.status, headers=self.headers
        )


def bad_request(message: str) -> ApiError:
    """Refuse a call that cannot be understood: 400."""
    return ApiError(400, "bad_request", message)


def not_found(what: str) -> ApiError:
    """Say that there is no such thing, or not for this user [A: the two are not told apart]: 404."""
    return ApiError(404, f"{what.replace(' ', '_')}_not_found", f"There is no such {what} for this user.")


def forbidden(message: str) -> ApiError:
    """Refuse what this user may not do: 403."""
    return ApiError(403, "not_allowed", message)


def precondition_failed(error: str, message: str) -> ApiError:
    """Refuse what cannot be done as things are: 412."""
    return ApiError(412, error, message)


def too_large() -> ApiError:
    """Refuse a body that nobody would send: 413 [A]."""
    return ApiError(413, "too_large", "The body is too large.")


def too_many(error: str, message: str, wait: float | None) -> ApiError:
    """Refuse a call for now: 429 [D]; `wait` seconds go into `Retry-After`, rounded up [A: RFC 9110]."""
    headers = {} if wait is None else {"Retry-After": str(max(1, ceil(wait)))}
    return ApiError(429, error, message, headers=headers)


def json_answer(
    document: object, *, status: int = 200, headers: Mapping[str, str] | None = None
) -> web.Response:
    """Answer with JSON."""
    return web.Response(
        body=encode(document),
        status=status,
        headers=headers,
        content_type="application/json",
        charset="utf-8",
    )


def cut(request: web.BaseRequest) -> None:
    """Close the connection: what was written still goes out, what was not read is lost."""
    if request.transport is not None:
        request.transport.close()
