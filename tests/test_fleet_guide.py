"""What docs/fleet.md shows exists, and its examples run."""

import ast
import re
from pathlib import Path
from typing import Any, Final

import pytest
from attrs import frozen

import healthmsg
from healthmsg import errors, open_campaigns
from tests.test_deploy import check_commands_in

ROOT: Final = Path(__file__).parent.parent
GUIDE: Final = (ROOT / "docs/fleet.md").read_text(encoding="utf-8")
EXAMPLES: Final = re.findall(r"```python\n(.*?)```", GUIDE, re.DOTALL)
LIMIT, BOOK = range(2)


def run(number: int, **scope: Any) -> dict[str, Any]:
    exec(compile(ast.parse(EXAMPLES[number]), "docs/fleet.md", "exec"), scope)  # noqa: S102 - our own guide
    return scope


def test_all_examples_are_known_here() -> None:
    assert len(EXAMPLES) == 2


def test_every_command_and_variable_exists() -> None:
    assert check_commands_in(GUIDE, "opentelemetry-instrument") > 5


def test_every_metric_is_reported() -> None:
    named = set(re.findall(r"`((?:healthmsg|http\.client)\.[a-z_.]+[a-z])`", GUIDE)) - {"healthmsg.outcome"}
    source = (Path(healthmsg.__file__).parent / "otel.py").read_text(encoding="utf-8")
    assert {"healthmsg.worker.ready", "healthmsg.messages", "healthmsg.limit.slots"} <= named
    reported = {*re.findall(r'"(healthmsg\.[a-z_.]+)"', source), "http.client.request.duration"}
    assert named <= reported


def test_every_error_and_name_in_it_is_public() -> None:
    code = re.findall(r"`([A-Z]\w+)(?:\([^`]*\))?`", GUIDE)
    named = {name for name in code if not name.isupper() and "_" not in name}
    assert {"SharedLimit", "SQLTokenStore", "RedisTokenStore", "LimitUnavailableError"} <= named
    unknown = [name for name in named if not hasattr(healthmsg, name) and not hasattr(errors, name)]
    assert unknown == []


async def test_a_client_with_a_shared_limit_is_made_as_shown() -> None:
    assert isinstance(run(LIMIT, token="t0ken")["client"], healthmsg.Client)


@frozen
class Appointment:
    """One of the example's."""

    chat: str
    number: str


@pytest.mark.slow
async def test_an_appointment_is_entered_once_as_shown(database: str) -> None:
    book = run(BOOK)["book"]
    for _ in range(2):
        await book(database, Appointment("conversations/c1", "a1"))
    async with open_campaigns(database) as campaigns:
        assert (await campaigns.get("appointments")).counts.waiting == 1
