"""Calling the control surface of a bot that runs on this machine."""

from collections.abc import Mapping
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Final

from attrs import field, frozen

from healthmsg.cli.problems import RefusedError, system_reason
from healthmsg.codec import encode
from healthmsg.control.token import HOST, read_token
from healthmsg.json_text import JSONObject, NotJSONError, parse_json

# Seconds. The surface itself gives up after 30.
_TIMEOUT: Final = 40.0
_MULTIPLE_CHOICES: Final = 300


@frozen
class ControlClient:
    """The way to a bot's control surface."""

    port: int
    token: str = field(repr=False)

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
        """Call it, and return its answer. Blocks.

        Raises:
            RefusedError: no bot answers there, or it refuses.
        """
        body = None if document is None else encode(document)
        # Not by the environment's proxies: it is on this machine.
        connection = HTTPConnection(HOST, self.port, timeout=_TIMEOUT)
        headers = {"Authorization": f"Bearer {self.token}", "Content-Type": "application/json"}
        try:
            connection.request(method, path, body, headers)
            answer = connection.getresponse()
            status, data = answer.status, answer.read()
        except OSError as error:
            problem = f"no bot answers on port {self.port}: {system_reason(error)}"
        except HTTPException as error:
            problem = f"what answers on port {self.port} is no bot: {type(error).__name__}"
        else:
            found = _object(data)
            if found is not None and status < _MULTIPLE_CHOICES:
                return found
            problem = _refusal(self.port, status, found)
        finally:
            connection.close()
        raise RefusedError(problem)

    def is_there(self) -> bool:
        """Return whether a bot still answers. Blocks."""
        connection = HTTPConnection(HOST, self.port, timeout=_TIMEOUT)
        try:
            connection.request("GET", "/health")
            connection.getresponse().read()
        except (OSError, HTTPException):
            return False
        finally:
            connection.close()
        return True


def _object(data: bytes) -> Mapping[str, object] | None:
    try:
        found = parse_json(data)
    except NotJSONError:
        return None
    return found if isinstance(found, dict) else None


def _refusal(port: int, status: int, found: JSONObject | None) -> str:
    error = None if found is None else found.get("error")
    message = error.get("message") if isinstance(error, dict) else None
    if not isinstance(message, str):
        return f"what answers on port {port} is no bot: HTTP {status}"
    return f"the bot refuses: {message}"
