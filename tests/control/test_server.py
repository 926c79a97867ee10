"""The server of control surfaces over real sockets: what is served where, and to which request."""

import json
from collections.abc import Mapping

import pytest
from aiohttp import ClientSession

from healthmsg.control.server import Answer, Asked, ControlServer, Route, probe
from healthmsg.errors import ConfigurationError

TOKEN = "t0ken-canary"


async def private(_: Asked) -> Answer:
    return Answer({"private": True})


PROBE = probe("/health", "alive", lambda: True)
CLOSED = Route("GET", "/stats", private)


async def asked(
    server: ControlServer, path: str, headers: Mapping[str, str] | None = None
) -> tuple[int, object]:
    async with ClientSession() as session:
        url = f"http://127.0.0.1:{server.port}{path}"
        async with session.get(url, headers=headers) as answer:
            return answer.status, json.loads(await answer.read())


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.7", "worker.example"])  # noqa: S104 - what is refused
def test_what_needs_a_token_is_served_on_this_machine_alone(host: str) -> None:
    with pytest.raises(ConfigurationError, match="/stats"):
        ControlServer((PROBE, CLOSED), TOKEN, 0, host)


def test_what_needs_a_token_is_not_served_without_one() -> None:
    with pytest.raises(ConfigurationError, match="without one"):
        ControlServer((PROBE, CLOSED), None)


async def test_probes_of_other_machines_are_answered_by_whatever_name_they_use() -> None:
    async with ControlServer((PROBE,), None, 0, "0.0.0.0") as server:  # noqa: S104 - as in a container
        assert await asked(server, "/health", {"Host": "10.1.2.3:8080"}) == (200, {"alive": True})
        assert (await asked(server, "/health", {"Origin": "http://evil.example"}))[0] == 421
        assert (await asked(server, "/stats"))[0] == 404


async def test_a_server_of_probes_on_this_machine_refuses_foreign_names() -> None:
    async with ControlServer((PROBE,), None) as server:
        assert server.addresses == ("127.0.0.1",)
        assert await asked(server, "/health") == (200, {"alive": True})
        assert (await asked(server, "/health", {"Host": "evil.example"}))[0] == 421
    assert not server.addresses


async def test_open_routes_need_no_token_and_all_others_do() -> None:
    async with ControlServer((PROBE, CLOSED), TOKEN) as server:
        assert await asked(server, "/health") == (200, {"alive": True})
        assert (await asked(server, "/stats"))[0] == 401
        bearer = {"Authorization": f"Bearer {TOKEN}"}
        assert await asked(server, "/stats", bearer) == (200, {"private": True})
        assert TOKEN not in repr(server)
