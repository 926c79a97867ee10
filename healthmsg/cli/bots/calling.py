"""Calling the control surface of a bot that runs on this machine."""

from collections.abc import Mapping
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Final

from attrs import field, frozen

from healthmsg.bot.surface import OTHER_STORE, STORE
from healthmsg.cli.problems import RefusedError, system_reason
from healthmsg.codec import encode
from healthmsg.control.token import HOST, read_token
from healthmsg.json_text import JSONObject, NotJSONError, parse_json

# Seconds. The surface itself gives up after 30.
_TIMEOUT: Final = 40.0
_MULTIPLE_CHOICES: Final = 300
_SERVER_ERROR: Final = 500


class NoAnswerError(Exception):
    """A bot was asked for something, and it is not known whether it did it, or will."""


class BusyError(RefusedError):
    """Nothing was asked for: what listens there does not answer in time."""


@frozen
class NamedStore:
    """A store that is meant: how a person calls it, and its identity."""

    name: str
    identity: str


@frozen
class ControlClient:
    """The way to the control surface of a bot: of the one that has a store, if that is given."""

    port: int
    token: str = field(repr=False)
    store: NamedStore | None = None

    @classmethod
    def of(cls, port: int, token_file: Path | None) -> "ControlClient":
        """Return it, with the token that a file has.

        Raises:
            RefusedError: there is no file.
            ConfigurationError: the file cannot be used.
        """
        if token_file is None:
            raise RefusedError("--control needs --control-token, the file with its token")
        return cls(port, read_token(token_file))

    def call(self, method: str, path: str, document: JSONObject | None = None) -> JSONObject:
        """Call it, and return its answer. A bot with another store does nothing. Blocks.

        Raises:
            RefusedError: no bot answers there, or it refuses: nothing was done.
            NoAnswerError: it was asked, and it is not known what it did.
        """
        body = None if document is None else encode(document)
        headers = {"Authorization": f"Bearer {self.token}", "Content-Type": "application/json"}
        if self.store is not None:
            headers[STORE] = self.store.identity
        # Not by the environment's proxies: it is on this machine.
        connection = HTTPConnection(HOST, self.port, timeout=_TIMEOUT)
        try:
            self._connect(connection)
            connection.request(method, path, body, headers)
            answer = connection.getresponse()
            status, data = answer.status, answer.read()
        except OSError as error:
            lost = f"the bot on port {self.port} gave no answer: {system_reason(error)}"
        except HTTPException as error:
            raise RefusedError(
                f"what answers on port {self.port} is no bot: {type(error).__name__}"
            ) from None
        else:
            found = _object(data)
            if found is not None and status < _MULTIPLE_CHOICES:
                return found
            problem = self._refusal(status, found)
            if status < _SERVER_ERROR:
                raise RefusedError(problem)
            lost = problem
        finally:
            connection.close()
        raise NoAnswerError(lost)

    def _connect(self, connection: HTTPConnection) -> None:
        try:
            connection.connect()
        except OSError as error:
            kind = BusyError if isinstance(error, TimeoutError) else RefusedError
            problem = f"no bot answers on port {self.port}: {system_reason(error)}"
        else:
            return
        raise kind(problem)

    def _refusal(self, status: int, found: JSONObject | None) -> str:
        error = None if found is None else found.get("error")
        code, message = (error.get("code"), error.get("message")) if isinstance(error, dict) else ("", None)
        if not isinstance(message, str):
            return f"what answers on port {self.port} is no bot: HTTP {status}"
        if code == OTHER_STORE and self.store is not None:
            mine = f"{self.store.name} is the store {self.store.identity}"
            return f"{mine}, and the bot on port {self.port} has another one: {message}"
        return f"the bot refuses: {message}"

    def has_ended(self, started_at: object) -> bool:
        """Return whether the bot that was started then has ended, be it that another start followed. Blocks.

        While that is not known, such as of one that is too busy to answer, `False`.
        """
        try:
            return self.call("GET", "/stats").get("started_at") != started_at
        except (NoAnswerError, BusyError):
            return False
        except RefusedError:
            return True  # there is none any more, or it is another one


def _object(data: bytes) -> Mapping[str, object] | None:
    try:
        found = parse_json(data)
    except NotJSONError:
        return None
    return found if isinstance(found, dict) else None
