"""A token URL without a network, and what the tests of this folder share."""

import asyncio
import traceback
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from urllib.parse import parse_qs

import orjson

from healthmsg import OAuthApp, Token
from healthmsg.environment import Environment
from healthmsg.errors import HealthmsgError
from healthmsg.pipeline.request import Content, Request, Response

# When a plain test runs first, looptime 0.9 asks for the present event loop, and asyncio makes one that
# stays open, unless it was said once that there is none.
asyncio.set_event_loop(None)

SECRETS = ("s3cr3t-value", "r3fresh-value", "c0de-value", "cl1ent-secret", "st4te-value")
VALUE, REFRESH_TOKEN, CODE, CLIENT_SECRET, STATE = SECRETS

LOCAL = Environment(
    "local",
    "http://127.0.0.1:8080/v1",
    "http://127.0.0.1:8080/oauth/authorize",
    "http://127.0.0.1:8080/oauth/token",
)
NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


class Clock:
    """A time that stands still until a test moves it."""

    def __init__(self) -> None:
        self.time = NOON
        self.looks = 0

    def __call__(self) -> datetime:
        self.looks += 1
        return self.time

    def advance(self, seconds: float) -> None:
        self.time += timedelta(seconds=seconds)


class TokenService:
    """Answers token calls as it is ordered to, and remembers them."""

    def __init__(self, *answers: object, delay: float = 0.0) -> None:
        self.answers = list(answers)
        self.delay = delay
        self.requests: list[Request] = []

    async def __call__(self, request: Request) -> Response:
        self.requests.append(request)
        await asyncio.sleep(self.delay)
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, BaseException):
            raise answer
        body = answer if isinstance(answer, bytes) else orjson.dumps(answer)
        return Response(request.call, 200, {}, body)

    def form(self, index: int = 0) -> dict[str, list[str]]:
        body = self.requests[index].body
        assert isinstance(body, Content)
        assert body.content_type == "application/x-www-form-urlencoded"
        return parse_qs(body.data.decode(), keep_blank_values=True, strict_parsing=True)


def app(environment: Environment = LOCAL, clock: Clock | None = None) -> OAuthApp:
    return OAuthApp(
        "client-1", CLIENT_SECRET, "https://clinic.example/callback", environment, now=clock or Clock()
    )


def answer(**changes: object) -> dict[str, object]:
    """The answer as documented, with changes; a None takes a field out."""
    whole: dict[str, object] = {
        "access_token": VALUE,
        "scope": "read write",
        "token_type": "bearer",
        **changes,
    }
    return {name: value for name, value in whole.items() if value is not None}


def expiring(seconds: float = 3600, value: str = "old", refresh_token: str | None = REFRESH_TOKEN) -> Token:
    return Token(
        value,
        ("read",),
        created_at=NOON,
        expires_at=NOON + timedelta(seconds=seconds),
        refresh_token=refresh_token,
    )


def assert_tells_no_secret(error: BaseException, *more: str) -> None:
    reported = "".join(_all_texts_of(error))
    for secret in (*SECRETS, *more):
        assert secret not in reported


def _all_texts_of(error: BaseException) -> Iterator[str]:
    assert error.__cause__ is None
    assert error.__context__ is None
    yield from (str(error), repr(error), repr(error.args))
    yield from traceback.format_exception_only(error)
    assert isinstance(error, HealthmsgError)
