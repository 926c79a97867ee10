"""Fixtures for all tests."""

import asyncio
import gc
import itertools
import os
import signal
import threading
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any, Final

import pytest
from aiohttp import ClientResponse, ClientSession, DummyCookieJar
from aioresponses import aioresponses
from hypothesis import HealthCheck, settings

from healthmsg import Client
from healthmsg.resources.chat import Chat
from healthmsg.sandbox import Sandbox
from tests.caller import Caller
from tests.machine import Machine

pytest_plugins = ["tests.journal_databases", "tests.redis_server"]
# `--hypothesis-profile=default` tries four times as many.
# On a busy machine inputs are made slowly, which says nothing of what is tested.
settings.register_profile("quick", max_examples=25, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("quick")
# On PostgreSQL these show what killed senders and killed bots show there, with the same store.
_SHOWN_BY_OTHERS: Final = (
    "tests/bulk/journal/test_journal_killed.py::test_what_was_acknowledged",
    "tests/gateway/inbox/test_inbox_killed.py::test_an_event_in_work",
)
_OF_PROXIES: Final = {"http_proxy", "https_proxy", "no_proxy", "all_proxy"}


def pytest_configure() -> None:
    """Undo what the place where the tests are started has set up for programs."""
    for name in os.environ.copy():
        if name.startswith("HEALTHMSG_") or name.lower() in _OF_PROXIES:
            del os.environ[name]
    # A shell starts what runs in the background with Ctrl-C ignored.
    is_main = threading.current_thread() is threading.main_thread()
    if is_main and signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_itemcollected(item: pytest.Item) -> None:
    """Leave to the thorough run what others show."""
    if item.nodeid.startswith(_SHOWN_BY_OTHERS) and "postgresql" in item.name:
        item.add_marker(pytest.mark.thorough)


def pytest_collection_finish() -> None:
    """Leave what is there by now out of the garbage collections by which tests see what is left behind."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session", autouse=True)
def no_stray_event_loop() -> None:
    # On Python 3.11, pytest-asyncio asks for the current event loop, which makes one that stays open
    # when a sync test came first.
    asyncio.set_event_loop(None)


@pytest.fixture
async def ticking_clock() -> None:
    """Let fake time move with each look at it: aiolimiter waits for ever by a clock that stands still."""
    loop = asyncio.get_running_loop()
    base, looks = loop.time, itertools.count()
    loop.time = lambda: base() + next(looks) * 1e-9  # type: ignore[method-assign]


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    """Return a machine that can be made to sleep: the event loop's time stands still then."""
    return Machine(monkeypatch)


@pytest.fixture
async def nothing_is_left_behind() -> AsyncIterator[None]:
    """No task of ours, and nothing that asyncio had to tell its exception handler."""
    reported: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: reported.append(context))
    yield
    gc.collect()
    assert not reported
    ours = [task for task in asyncio.all_tasks() if "healthmsg" in repr(task) and "sandbox" not in repr(task)]
    assert not ours


@pytest.fixture
async def nothing_reaches_the_event_loop() -> AsyncIterator[None]:
    """Such as "Task exception was never retrieved", or an exception in a callback."""
    reported: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: reported.append(context))
    yield
    gc.collect(1)
    await asyncio.sleep(0)
    assert not reported
    assert len(asyncio.all_tasks()) == 1


@pytest.fixture
async def session() -> AsyncIterator[ClientSession]:
    async with ClientSession(cookie_jar=DummyCookieJar()) as session:
        yield session


@pytest.fixture
def is_strict() -> bool:
    """Tell how strict the sandbox is; a test can parametrize it."""
    return False


@pytest.fixture
async def sandbox(is_strict: bool) -> AsyncIterator[Sandbox]:
    # Its time of day goes with the event loop's, which may be fake.
    loop, noon = asyncio.get_running_loop(), datetime.now(UTC)
    started = loop.time()
    now = lambda: noon + timedelta(seconds=loop.time() - started)  # noqa: E731 - a line
    async with Sandbox(now=now, strict=is_strict) as sandbox:
        yield sandbox


@pytest.fixture
def call(sandbox: Sandbox, session: ClientSession) -> Caller:
    return Caller(sandbox, session)


@pytest.fixture
async def client(sandbox: Sandbox) -> AsyncIterator[Client]:
    """Return a client of the sandbox's main user."""
    async with Client(sandbox.issue_token(), environment=sandbox.environment) as client:
        yield client


@pytest.fixture
def chat(client: Client, sandbox: Sandbox) -> Chat:
    """Return a new conversation of the sandbox's main user."""
    return client.conversations(sandbox.add_conversation())


class _AnswerOfAioresponses(ClientResponse):
    """aioresponses 0.7.9 does not know an argument that aiohttp 3.14 asks for (aioresponses#289)."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, stream_writer=SimpleNamespace(output_size=0), **kwargs)  # type: ignore[arg-type]


class Answers(aioresponses):
    """aioresponses for the aiohttp that is installed."""

    def add(self, *args: Any, **kwargs: Any) -> None:
        kwargs.setdefault("response_class", _AnswerOfAioresponses)
        super().add(*args, **kwargs)


@pytest.fixture
def answers() -> Iterator[Answers]:
    """Answer calls without a socket: for single steps and resources."""
    answers = Answers()
    with answers:
        yield answers
