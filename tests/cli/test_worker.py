"""`healthmsg worker`: what it refuses, signals, probes and figures, its log, and its metrics."""

import asyncio
import json
import os
import signal
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientSession
from attrs import define, evolve, field
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader

from healthmsg import Client
from healthmsg.cli.bots.running import ControlAt
from healthmsg.cli.problems import RefusedError
from healthmsg.cli.secret_files import read_secret_files
from healthmsg.cli.working import running as running_module
from healthmsg.cli.working.lines import Trouble, WorkerLog, last_words, trouble_of
from healthmsg.cli.working.options import ProbesAt, WorkerOptions
from healthmsg.cli.working.running import WorkerRun
from healthmsg.errors import (
    ConfigurationError,
    HealthmsgError,
    JournalError,
    LimitUnavailableError,
    ReauthorizationRequiredError,
    SendingGivenUpError,
    TokenStoreError,
)
from healthmsg.otel import WorkerFigures, WorkerMetrics
from healthmsg.ratelimit.window import LimitStats
from healthmsg.sandbox.state import environment_at
from healthmsg.worker import WorkerStats
from tests.cli.command_line import ACCOUNT, invoke
from tests.waiting import until

TOKEN = "t0ken-canary"
URL = "postgresql://me:passw0rd-canary@nowhere.example/recall"
ENVIRONMENT = environment_at("http://127.0.0.1:9")


@define(eq=False)
class FakeWorker:
    """A worker without journal and service."""

    client: Client | None = None
    journal: object = None
    settle: float = 0.0
    figures: WorkerStats = field(factory=WorkerStats)
    ready: bool = False
    waits_for: Exception | None = None
    failure: Exception | None = None
    asked: list[str] = field(factory=list)
    ended: asyncio.Event = field(factory=asyncio.Event)
    drains: bool = True

    async def run(self) -> None:
        self.asked.append("run")
        await self.ended.wait()
        if self.failure is not None:
            raise self.failure

    def stop(self) -> None:
        self.asked.append("stop")
        if self.drains:
            self.ended.set()

    def stats(self) -> WorkerStats:
        return self.figures

    @property
    def is_ready(self) -> bool:
        return self.ready

    @property
    def problem(self) -> Exception | None:
        return self.waits_for


class Running:
    """A worker that is being run in this process."""

    def __init__(self, worker: FakeWorker | None = None, **options: Any) -> None:
        self.worker = worker or FakeWorker()
        self.lines: list[str] = []
        self.ended_at_once: list[int] = []

        async def client() -> Client:
            return Client(TOKEN, environment=ENVIRONMENT)

        def make(client: Client, journal: object, *, settle: float) -> FakeWorker:
            self.worker.client, self.worker.journal, self.worker.settle = client, journal, settle
            return self.worker

        options = {"make_client": client, "make_worker": make, **options}
        self.run = WorkerRun(
            journal=URL, say=self.lines.append, end_at_once=self.ended_at_once.append, **options
        )
        self.task = asyncio.ensure_future(self.run.run())

    async def begun(self) -> None:
        await until(lambda: self.worker.asked)

    def port(self, word: str) -> int:
        (line,) = (line for line in self.lines if word in line)
        return int(line.split("on ")[1].split(":")[1].strip(".").split(",")[0].split(".")[0])

    def says(self, word: str) -> bool:
        return any(word in line for line in self.lines)


async def get(port: int, path: str, token: str = "") -> tuple[int, Any]:
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    async with (
        ClientSession() as session,
        session.get(f"http://127.0.0.1:{port}{path}", headers=headers) as answer,
    ):
        return answer.status, await answer.json()


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(running_module, "_LOOK_EVERY", 0.01)


# --- signals


async def test_the_first_signal_drains_and_the_exit_status_says_which_it_was() -> None:
    for number, code in ((signal.SIGTERM, 0), (signal.SIGINT, 130)):
        running = Running()
        await running.begun()
        os.kill(os.getpid(), number)
        assert await asyncio.wait_for(running.task, 5) == code
        assert running.worker.asked == ["run", "stop"]
        assert running.ended_at_once == []
        assert running.says("being finished")
        assert "Ended" in running.lines[-1]


async def test_the_second_signal_ends_at_once() -> None:
    running = Running(FakeWorker(drains=False))
    await running.begun()
    for count in (1, 2):
        os.kill(os.getpid(), signal.SIGTERM)
        await until(
            lambda count=count: len(running.worker.asked) + len(running.ended_at_once) > count  # type: ignore[misc]
        )
    assert running.ended_at_once == [128 + signal.SIGTERM]
    assert running.worker.asked == ["run", "stop"]
    running.worker.ended.set()
    assert await running.task == 0


async def test_a_signal_while_the_client_is_made_ends_that() -> None:
    entered = asyncio.Event()

    async def never() -> Client:
        entered.set()
        await asyncio.Event().wait()
        raise AssertionError

    running = Running(make_client=never)
    await entered.wait()
    os.kill(os.getpid(), signal.SIGTERM)
    assert await asyncio.wait_for(running.task, 5) == 0
    assert running.worker.asked == []


async def test_what_the_worker_fails_with_is_raised_and_its_client_is_closed() -> None:
    running = Running(FakeWorker(failure=SendingGivenUpError("the token is not accepted")))
    await running.begun()
    running.worker.ended.set()
    with pytest.raises(SendingGivenUpError):
        await running.task
    client = running.worker.client
    assert client is not None
    with pytest.raises(HealthmsgError, match="closed"):
        await client.me.get()


# --- over HTTP


@pytest.fixture
async def served(quick: None) -> AsyncIterator[Running]:
    running = Running(probes=ProbesAt(0, "0.0.0.0"), control=ControlAt(0, TOKEN))  # noqa: S104 - as in a container
    await running.begun()
    yield running
    running.run._stop()
    await running.task


async def test_probes_say_whether_it_lives_and_whether_it_sends(served: Running) -> None:
    for port in (served.port("Probes"), served.port("Figures")):
        served.worker.ready = False
        assert await get(port, "/health") == (200, {"alive": True})
        assert await get(port, "/ready") == (503, {"ready": False})
        served.worker.ready = True
        assert await get(port, "/ready") == (200, {"ready": True})


async def test_the_port_of_the_probes_has_nothing_else_even_for_those_who_hold_the_token(
    served: Running,
) -> None:
    assert (await get(served.port("Probes"), "/stats", TOKEN))[0] == 404


async def test_the_figures_need_the_token_and_have_nothing_private(served: Running) -> None:
    port = served.port("Figures")
    served.worker.figures = WorkerStats(delivered=3, waiting=7)
    served.worker.waits_for = JournalError("the database cannot be reached")
    assert (await get(port, "/stats"))[0] == 401

    status, document = await get(port, "/stats", TOKEN)

    assert status == 200
    assert document["worker"]["delivered"] == 3
    assert document["client"]["calls"] == 0
    assert "database cannot be reached" in document["problem"]
    assert (document["ready"], document["stopping"]) == (False, False)
    assert "canary" not in json.dumps(document)


async def test_it_is_not_ready_while_the_limit_cannot_be_known(
    served: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    served.worker.ready = True
    port = served.port("Probes")

    def with_limit(held: int | None, store_away_for: float | None) -> None:
        limit = LimitStats("postgresql", held, store_away_for=store_away_for)
        stats = served.worker.client and evolve(served.worker.client.stats(), limit=limit)
        monkeypatch.setattr(served.worker.client, "stats", lambda: stats)

    for held, away, status in ((5, None, 200), (5, 0.5, 200), (0, 2.0, 503), (0, None, 200)):
        with_limit(held, away)
        assert (await get(port, "/ready"))[0] == status
    with_limit(0, 2.0)
    await until(lambda: served.says("limit of calls is shared over does not answer"))


async def test_it_is_alive_but_not_ready_while_it_starts_and_while_it_drains() -> None:
    may_go_on = asyncio.Event()

    async def slowly() -> Client:
        await may_go_on.wait()
        return Client(TOKEN, environment=ENVIRONMENT)

    running = Running(FakeWorker(ready=True, drains=False), make_client=slowly, probes=ProbesAt(0))
    await until(lambda: running.says("Probes"))
    port = running.port("Probes")
    assert ((await get(port, "/health"))[0], (await get(port, "/ready"))[0]) == (200, 503)
    may_go_on.set()
    await running.begun()
    assert (await get(port, "/ready"))[0] == 200
    os.kill(os.getpid(), signal.SIGTERM)
    await until(lambda: "stop" in running.worker.asked)
    assert ((await get(port, "/health"))[0], (await get(port, "/ready"))[0]) == (200, 503)
    running.worker.ended.set()
    await running.task


async def test_a_port_that_is_taken_is_refused_before_a_client_is_made() -> None:
    async def client() -> Client:
        raise AssertionError

    first = Running(probes=ProbesAt(0))
    await first.begun()
    with pytest.raises(ConfigurationError, match="cannot listen on port"):
        await Running(probes=ProbesAt(first.port("Probes")), make_client=client).task
    first.worker.stop()
    await first.task


# --- the log


def test_the_log_says_once_when_it_can_send_and_when_it_cannot() -> None:
    written = WorkerLog()

    def look(now: float, kind: str = "", text: str = "", *, is_ready: bool = True) -> list[str]:
        trouble = Trouble(kind, text or kind) if kind else None
        return list(written.lines(trouble, WorkerStats(), now, is_ready=is_ready))

    assert look(0, is_ready=False) == []
    assert look(1) == ["Ready: it sends what campaigns are in the journal."]
    assert look(2) == []
    assert look(3, "one", is_ready=False) == ["one"]
    assert look(4, "one", "the same at the second try", is_ready=False) == []
    assert look(5, "another", is_ready=False) == ["another"]
    assert look(6, is_ready=False) == []
    assert look(7) == ["Sends again."]
    assert look(8) == []
    assert [now for now in range(9, 1400) if look(now, "one", is_ready=False)] == [9, 609, 1209]


def test_the_log_has_figures_every_half_minute_while_they_change() -> None:
    stats = WorkerStats(delivered=1_200, unknown=1, in_doubt=2, under_way=9, waiting=40)

    def looks(written: WorkerLog) -> list[str]:
        moments = [(float(now), stats if now < 60 else evolve(stats, delivered=1_300)) for now in range(121)]
        found = [written.lines(None, figures, now, is_ready=False) for now, figures in moments]
        return [line for lines in found for line in lines]

    assert looks(WorkerLog()) == [
        "1,200 delivered, 0 not sent, 1 unknown, 2 in doubt; 9 under way, 40 waiting in the journal.",
        "1,300 delivered, 0 not sent, 1 unknown, 2 in doubt; 9 under way, 40 waiting in the journal.",
    ]
    assert looks(WorkerLog(is_quiet=True)) == []


@pytest.mark.parametrize(
    ("problem", "advice"),
    [
        (JournalError("x"), "journal is there and can be reached"),
        (ReauthorizationRequiredError("x"), "another token"),
        (TokenStoreError("x"), "store of the tokens"),
        (LimitUnavailableError("POST x", "y"), "store of the limit"),
        (ValueError("private"), "by itself"),
    ],
)
def test_every_problem_is_shown_with_what_to_do(problem: Exception, advice: str) -> None:
    assert advice in trouble_of(problem).line
    assert "Nothing is lost" in trouble_of(problem).line
    assert "private" not in trouble_of(problem).line


def test_one_that_has_ended_by_itself_does_not_say_that_it_goes_on() -> None:
    given_up = SendingGivenUpError("x")
    given_up.__cause__ = ReauthorizationRequiredError("y")
    for problem, advice in ((given_up, "another token"), (JournalError("x"), "can be reached"), (None, "")):
        assert advice in last_words(problem)
        assert "by itself" not in last_words(problem)
        assert "for another worker or the next start" in last_words(problem)


async def test_problems_are_in_the_log_while_it_runs(quick: None) -> None:
    running = Running(FakeWorker(waits_for=JournalError("the database cannot be reached")))
    await until(lambda: running.says("NOT SENDING: the database cannot be reached"))
    running.worker.waits_for, running.worker.ready = None, True
    await until(lambda: running.says("Ready"))
    running.worker.stop()
    await running.task
    assert not [line for line in running.lines if "canary" in line]


# --- metrics


class Measured:
    """What OpenTelemetry has of a worker."""

    def __init__(self) -> None:
        self._reader = InMemoryMetricReader()
        self.metrics = WorkerMetrics(MeterProvider([self._reader]))

    def figures(self) -> dict[tuple[str, str], float]:
        data = self._reader.get_metrics_data()
        assert data is not None
        return {
            (metric.name, str((point.attributes or {}).get("healthmsg.outcome", ""))): point.value  # type: ignore[union-attr]
            for metric in data.resource_metrics[0].scope_metrics[0].metrics
            for point in metric.data.data_points
        }


def test_outcomes_are_counted_once_and_states_are_as_they_were_last() -> None:
    measured = Measured()
    first = WorkerFigures(delivered=5, not_sent=1, unknown=0, under_way=4, waiting=90, slots=7)
    measured.metrics.report(first)
    measured.metrics.report(evolve(first, delivered=9, under_way=0, waiting=None, slots=None, is_ready=False))

    assert measured.figures() == {
        ("healthmsg.messages", "delivered"): 9,
        ("healthmsg.messages", "not_sent"): 1,
        ("healthmsg.messages.under_way", ""): 0,
        ("healthmsg.messages.waiting", ""): 90,
        ("healthmsg.limit.slots", ""): 7,
        ("healthmsg.worker.ready", ""): 0,
    }


async def test_a_worker_reports_its_figures_also_those_of_its_end(quick: None) -> None:
    measured = Measured()
    running = Running(metrics=measured.metrics)
    await running.begun()
    running.worker.figures = WorkerStats(delivered=2)
    running.worker.stop()
    await running.task

    assert measured.figures()["healthmsg.messages", "delivered"] == 2


# --- what it is given


@pytest.fixture
def account(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name, value in ACCOUNT.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("HEALTHMSG_JOURNAL", raising=False)
    before = dict(os.environ)
    yield
    for name in os.environ.keys() - before.keys():
        del os.environ[name]


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        ((), "--journal is needed"),
        (("--journal", "mysql://db.example/recall"), "postgresql"),
        (("--journal", URL, "--health-host", "0.0.0.0"), "--health-host needs --health"),  # noqa: S104
        (("--journal", URL, "--control", "8081"), "--control needs --control-token"),
        (("--journal", URL, "--client", "recall.py:client"), "named as module:client"),
        (("--journal", URL, "--client", "nowhere_at_all:client"), "no module nowhere_at_all"),
        (("--journal", URL, "--client", "tests.cli.test_worker:FakeWorker"), "is no Client"),
        (("--journal", URL, "--client", "a:b", "--no-x509-strict"), "with --client, give them to yours"),
    ],
)
def test_what_cannot_be_right_is_refused(account: None, arguments: tuple[str, ...], problem: str) -> None:
    done = invoke("worker", *arguments)

    assert done.code == 2
    assert problem in " ".join(done.err.split())
    assert "canary" not in done.err


def test_without_a_token_it_is_refused_and_says_what_to_set() -> None:
    done = invoke("worker", "--journal", URL, env={"HEALTHMSG_TOKEN": None})
    assert done.code == 2
    assert "HEALTHMSG_TOKEN" in done.err


async def an_authors_client() -> Client:
    return Client(TOKEN, environment=ENVIRONMENT)


async def a_broken_client() -> Client:
    raise KeyError(TOKEN)


async def a_client_without_a_store() -> Client:
    raise TokenStoreError("it cannot be read")


async def test_the_client_of_an_author_is_made_in_the_event_loop() -> None:
    def options(name: str) -> WorkerOptions:
        return WorkerOptions(URL, f"tests.cli.test_worker:{name}")

    assert isinstance(await options("an_authors_client").make_client(None), Client)
    with pytest.raises(RefusedError, match="KeyError") as refusal:
        await options("a_broken_client").make_client(None)
    assert TOKEN not in refusal.value.text
    with pytest.raises(TokenStoreError):
        await options("a_client_without_a_store").make_client(None)


# --- secrets as files


def test_a_secret_in_a_file_is_taken_for_the_variable(
    account: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    path = tmp_path / "journal"
    path.write_text(f"{URL}\n")
    monkeypatch.setenv("HEALTHMSG_JOURNAL_FILE", str(path))
    read_secret_files()
    assert os.environ["HEALTHMSG_JOURNAL"] == URL


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (None, "cannot be read"),
        (b"", "has no secret in it"),
        (b"\xff\xfe", "has no secret in it"),
        (b"canary\ncanary", "has no secret in it"),
        (b"x" * 20_000, "has no secret in it"),
    ],
)
def test_a_file_without_a_secret_is_refused_with_the_name_of_its_variable(
    account: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, content: bytes | None, problem: str
) -> None:
    path = tmp_path / "token"
    if content is not None:
        path.write_bytes(content)
    monkeypatch.delenv("HEALTHMSG_TOKEN")
    done = invoke("worker", env={"HEALTHMSG_TOKEN_FILE": str(path)})
    assert done.code == 2
    assert "HEALTHMSG_TOKEN_FILE" in done.err
    assert problem in done.err
    assert "canary" not in done.err


def test_a_variable_and_its_file_are_not_both_taken(account: None, tmp_path: Path) -> None:
    done = invoke("worker", env={"HEALTHMSG_TOKEN_FILE": str(tmp_path / "token")})
    assert done.code == 2
    assert "both set" in done.err
