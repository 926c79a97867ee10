"""A sandbox in another process: the calls under `/sandbox` that it answers, and the client for them.

They need the client's secret in a header. They are not in the call log, and do not count for the rate limit.
Those with which one plays the other side are in `page`, which makes them too.
"""

import asyncio
import sys
from base64 import b64encode
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final

import aiohttp
import orjson
from aiohttp import web
from attrs import field, frozen

from healthmsg.codec import decode, encode
from healthmsg.environment import Environment
from healthmsg.errors import ConfigurationError
from healthmsg.models import Message
from healthmsg.sandbox.call import ApiError, Call, bad_request, json_answer
from healthmsg.sandbox.other_side import SandboxFile
from healthmsg.sandbox.records import StoredChat, StoredMessage
from healthmsg.sandbox.routing import Handler, Table
from healthmsg.sandbox.state import State, environment_at, is_same

SECRET_HEADER: Final = "x-sandbox-secret"  # noqa: S105 - a header's name


@frozen
class RemoteSandbox:
    """A sandbox that listens at `url`, which may be a proxy's.

    The methods take ids, and raise `ConfigurationError` when no sandbox answers or the secret is wrong; those
    that are named as the methods of `Sandbox` also raise what these raise.
    """

    url: str
    client_id: str
    client_secret: str = field(repr=False)

    @property
    def environment(self) -> Environment:
        """The sandbox's URLs, for a `Client`."""
        return environment_at(self.url)

    async def add_conversations(self, people: Sequence[Mapping[str, str]]) -> list[str]:
        """Start a conversation with each new patient, `{first_name, last_name, aux_id?}`; return the ids."""
        ids: list[str] = await self._call("POST", "conversations", people)
        return ids

    async def say(
        self, user: str | None, chat: str, text: str = "", *, files: Iterable[SandboxFile] = ()
    ) -> Message:
        """Send a message, as `Sandbox.say` does; of real files 700 KB fit in at most."""
        described = [_described(file) for file in files]
        document = {"user": user, "chat": chat, "text": text, "files": described}
        return decode(encode(await self._call("POST", "say", document)), Message, "sandbox message")

    async def answer(self, user: str | None, message: str, option: str | Iterable[str]) -> None:
        """Press a button of a question, as `Sandbox.answer` does."""
        options = [option] if isinstance(option, str) else list(option)
        await self._call("POST", "answer", {"user": user, "message": message, "options": options})

    async def verify(self, user: str | None, message: str, *, accepted: bool = True) -> None:
        """Answer a request for verification, as `Sandbox.verify` does."""
        await self._call("POST", "verify", {"user": user, "message": message, "accepted": accepted})

    async def type(self, user: str | None, chat: str, *, stopped: bool = False) -> None:
        """Begin to type in a chat, or stop, as `Sandbox.type` does."""
        await self._call("POST", "type", {"user": user, "chat": chat, "stopped": stopped})

    async def report(self) -> dict[str, object]:
        """Return the sum of what arrived, from the sandbox's log and store; see `summary`."""
        report: dict[str, object] = await self._call("GET", "report")
        return report

    async def reset_log(self) -> None:
        """Forget the calls so far; what they did stays."""
        await self._call("POST", "reset-log")

    async def _call(self, method: str, path: str, document: object = None) -> Any:
        headers = {SECRET_HEADER: self.client_secret, "Content-Type": "application/json"}
        url = f"{self.url}/sandbox/{path}"
        try:
            async with (
                aiohttp.ClientSession(headers=headers) as session,
                session.request(method, url, data=orjson.dumps(document)) as answer,
            ):
                status, body = answer.status, await answer.read()
        except aiohttp.ClientError:
            status, body = None, b""
        if status is None:
            raise ConfigurationError(f"no sandbox answers at {self.url}")
        refusal = _refusal(body) if status in {404, 409} else None
        if refusal is not None:
            raise refusal
        if status >= 400:  # noqa: PLR2004 - HTTP
            raise ConfigurationError(
                f"the sandbox at {self.url} answered {status}: is the client's secret right?"
            )
        return orjson.loads(body)


def _refusal(body: bytes) -> Exception | None:
    """Return what `Sandbox` raises in such a case; `None`: this is no refusal of the calls in `page`."""
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError:
        return None
    match document:
        case {"error": "not_found", "message": str(message)}:
            return KeyError(message)
        case {"error": "not_possible", "message": str(message)}:
            return ValueError(message)
        case _:
            return None


def _described(file: SandboxFile) -> dict[str, object]:
    described: dict[str, object] = {
        "name": file.name,
        "mime_type": file.mime_type,
        "announced_size": file.announced_size,
    }
    if isinstance(file.content, int):
        return described | {"size": file.content}
    return described | {"content": b64encode(file.content).decode()}


@asynccontextmanager
async def sandbox_process() -> AsyncIterator[RemoteSandbox]:
    """Run a sandbox in a process of its own.

    Raises:
        ConfigurationError: it did not start.
    """
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "healthmsg.sandbox", stdout=asyncio.subprocess.PIPE
    )
    try:
        assert process.stdout is not None  # noqa: S101 - requested above
        line = await process.stdout.readline()
        if not line:
            raise ConfigurationError("the sandbox did not start")
        yield RemoteSandbox(**orjson.loads(line))
    finally:
        if process.returncode is None:
            process.terminate()
        await process.communicate()


async def show_log(call: Call) -> web.Response:
    """GET sandbox/log: every call so far."""
    return json_answer(call.state.log.to_json())


async def show_report(call: Call) -> web.Response:
    """GET sandbox/report: see `summary`."""
    return json_answer(summary(call.state))


def summary(state: State) -> dict[str, object]:
    """Sum up what arrived, and what lists have shown.

    `copies` says for every chat's address how often it holds each text; `uploads` counts the files that were
    uploaded since the log was cleared.
    """
    log = state.log
    return {
        "calls": len(log.arrivals),
        "rejected": log.rejected,
        "calls_per_second": log.per_second,
        "max_calls_in_any_second": log.most_in_any_second,
        "uploads": state.uploads,
        "conversations_read": sum(isinstance(item, StoredChat) for item in state.listed),
        "messages_read": sum(isinstance(item, StoredMessage) for item in state.listed),
        "copies": {
            chat.address: dict(Counter(message.body for message in chat.messages))
            for chat in state.store.chats.values()
            if chat.messages
        },
    }


async def add_conversations(call: Call) -> web.Response:
    """POST sandbox/conversations: a new patient and a conversation a row."""
    document = await call.json()
    if not isinstance(document, list):
        raise bad_request("The body must be an array of {first_name, last_name, aux_id?}.")
    store, chats = call.state.store, []
    for first_name, last_name, aux_id in [_names_and_aux_id(row) for row in document]:
        patient = store.add_person(first_name, last_name, aux_id=aux_id)
        chats.append(store.start_conversation(call.state.main_user, patient).id)
    return json_answer(chats, status=201)


def _names_and_aux_id(row: object) -> tuple[str, str, str | None]:
    if isinstance(row, dict):
        match row.get("first_name"), row.get("last_name"), row.get("aux_id"):
            case str(first_name), str(last_name), str() | None as aux_id:
                return first_name, last_name, aux_id
            case _:
                pass
    raise bad_request("Each row needs a first_name and a last_name, and may have an aux_id.")


async def reset_log(call: Call) -> web.Response:
    """POST sandbox/reset-log: forget the calls so far."""
    call.state.log.clear()
    call.state.listed.clear()
    call.state.uploads = 0
    return json_answer({})


def _with_secret(handler: Handler[Call]) -> Handler[Call]:
    async def answer(call: Call) -> web.Response:
        if not is_same(call.request.headers.get(SECRET_HEADER, ""), call.state.options.client_secret):
            message = f"The header {SECRET_HEADER} must be the client's secret."
            raise ApiError(403, "secret_required", message)
        return await handler(call)

    return answer


TABLE: Final[Table[Call]] = (
    ("GET", "sandbox/log", _with_secret(show_log)),
    ("GET", "sandbox/report", _with_secret(show_report)),
    ("POST", "sandbox/conversations", _with_secret(add_conversations)),
    ("POST", "sandbox/reset-log", _with_secret(reset_log)),
)
