"""Two workers as `deploy/docker-compose.yaml` runs them, as processes on a PostgreSQL of the tests' own."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml
from aiohttp import ClientError, ClientSession
from attrs import define, field

from healthmsg import CampaignInfo, Outgoing, SQLTokenStore, Token, TokenCipher, open_campaigns
from healthmsg.sandbox import Delay, Sandbox
from tests.cli.command_line import until_sending
from tests.journal_databases import running_postgresql
from tests.waiting import until

pytestmark = pytest.mark.slow

COMPOSE = yaml.safe_load((Path(__file__).parents[2] / "deploy/docker-compose.yaml").read_text("utf-8"))
NAME = "An-canary"
CAMPAIGN = "recall-2026"
SECONDS = 60.0


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def from_manifest(api_url: str, folder: Path, port: int) -> tuple[list[str], dict[str, str]]:
    """Return the command and the variables of a worker of the manifest, with the secrets in this folder."""
    service = COMPOSE["services"]["worker"]
    variables = {
        **os.environ,
        **{name: str(value) for name, value in service["environment"].items()},
        "HEALTHMSG_HEALTH": str(port),
        "HEALTHMSG_API_URL": api_url,
    }
    del variables["HEALTHMSG_ENVIRONMENT"]
    for name in ("HEALTHMSG_TOKEN_FILE", "HEALTHMSG_JOURNAL_FILE"):
        variables[name] = str(folder / Path(variables[name]).name)
    return [sys.executable, "-m", "healthmsg.cli", *service["command"]], variables


@define(eq=False)
class WorkerProcess:
    """One worker, and what it has written."""

    process: asyncio.subprocess.Process
    port: int
    output: bytearray = field(factory=bytearray)
    reading: "asyncio.Task[None] | None" = None

    @property
    def log(self) -> str:
        return self.output.decode()

    async def read(self) -> None:
        assert self.process.stderr is not None
        while data := await self.process.stderr.read(4096):
            self.output += data

    async def probe(self, path: str) -> int:
        """Return the status; 0: nothing answers."""
        try:
            async with (
                ClientSession() as session,
                session.get(f"http://127.0.0.1:{self.port}{path}") as answer,
            ):
                document = await answer.json()
                assert list(document.values()) == [answer.status == 200]
                return answer.status
        except ClientError:
            return 0

    async def until_it_is(self, path: str, status: int) -> None:
        async with asyncio.timeout(SECONDS):
            while await self.probe(path) != status:  # noqa: ASYNC110 - it is about another process
                await asyncio.sleep(0.02)

    async def end(self, number: int) -> int:
        self.process.send_signal(number)
        return await self.ended()

    async def ended(self) -> int:
        code = await asyncio.wait_for(self.process.wait(), SECONDS)
        assert self.reading is not None
        await self.reading
        return code


@define(eq=False)
class Fleet:
    """A service, a journal, and the workers on it."""

    sandbox: Sandbox
    journal: str
    folder: Path
    token: str
    workers: list[WorkerProcess] = field(factory=list)
    chats: list[str] = field(factory=list)

    async def start(self, *, with_token: bool = True) -> WorkerProcess:
        """Start a worker with the command, the variables and the secrets of the manifest.

        What was under way when it is killed is looked for sooner than in earnest.
        """
        port = free_port()
        command, variables = from_manifest(self.sandbox.environment.api_url, self.folder, port)
        if not with_token:
            del variables["HEALTHMSG_TOKEN_FILE"]
        process = await asyncio.create_subprocess_exec(
            *command,
            *("--settle", "5"),
            env=variables,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
        )
        worker = WorkerProcess(process, port)
        worker.reading = asyncio.ensure_future(worker.read())
        self.workers.append(worker)
        return worker

    async def add(self, count: int) -> None:
        self.chats = [f"conversations/{self.sandbox.add_conversation()}" for _ in range(count)]
        messages = [Outgoing(chat, f"Beste {NAME}", key=chat) for chat in self.chats]
        async with open_campaigns(self.journal) as campaigns:
            await campaigns.add(CAMPAIGN, messages)

    async def campaign(self) -> CampaignInfo:
        async with open_campaigns(self.journal) as campaigns:
            return await campaigns.get(CAMPAIGN)

    @property
    def delivered(self) -> Counter[str]:
        """How many messages each chat has."""
        return Counter({chat: len(self.sandbox.messages(chat)) for chat in self.chats})

    async def until_delivered(self, count: int) -> None:
        async with asyncio.timeout(3 * SECONDS):
            while self.delivered.total() < count:  # noqa: ASYNC110 - it is about other processes
                await asyncio.sleep(0.02)

    async def until_noted(self) -> None:
        async with asyncio.timeout(3 * SECONDS):
            while (await self.campaign()).counts.open:  # noqa: ASYNC110 - it is about other processes
                await asyncio.sleep(0.1)

    def check_all_once(self) -> None:
        assert set(self.delivered.values()) == {1}

    def check_nothing_private(self) -> None:
        for worker in self.workers:
            for private in (NAME, self.token, *(chat.partition("/")[2] for chat in self.chats)):
                assert private not in worker.log


@asynccontextmanager
async def a_fleet(journal: str, folder: Path, workers: int, **options: Any) -> AsyncIterator[Fleet]:
    async with Sandbox(**options) as sandbox:
        token = sandbox.issue_token()
        fleet = Fleet(sandbox, journal, folder, token)
        (folder / "healthmsg_token").write_text(token)
        (folder / "healthmsg_journal").write_text(journal)
        try:
            for _ in range(workers):
                await fleet.start()
            yield fleet
        finally:
            for worker in fleet.workers:
                if worker.process.returncode is None:
                    worker.process.kill()
                await worker.ended()


async def test_two_workers_share_a_campaign_and_one_that_is_stopped_in_the_middle_drains(
    database: str, tmp_path: Path
) -> None:
    async with a_fleet(database, tmp_path, 2) as fleet:
        first, second = fleet.workers
        for worker in fleet.workers:
            await worker.until_it_is("/ready", 200)
            assert await worker.probe("/health") == 200
            await until(lambda worker=worker: "Ready" in worker.log)  # type: ignore[misc]
        await fleet.add(90)
        await fleet.until_delivered(30)

        assert await first.end(signal.SIGTERM) == 0
        await fleet.until_delivered(90)
        await fleet.until_noted()
        counts = (await fleet.campaign()).counts
        assert await second.end(signal.SIGTERM) == 0

        fleet.check_all_once()
        fleet.check_nothing_private()
        assert (counts.delivered, counts.messages) == (90, 90)
        for worker in fleet.workers:
            assert "being finished" in worker.log
            assert "0 under way" in worker.log.splitlines()[-1]
            # Both have sent.
            assert " 0 delivered" not in worker.log.splitlines()[-1]


@pytest.mark.thorough
async def test_what_a_killed_worker_had_is_sent_once_by_another(database: str, tmp_path: Path) -> None:
    async with a_fleet(database, tmp_path, 2) as fleet:
        await fleet.add(120)
        await fleet.until_delivered(40)
        assert await fleet.workers[0].end(signal.SIGKILL) == -signal.SIGKILL
        await fleet.until_delivered(120)
        await fleet.until_noted()

        fleet.check_all_once()
        fleet.check_nothing_private()
        assert fleet.sandbox.rejected == 0


@pytest.mark.thorough
async def test_a_second_signal_ends_a_worker_at_once(database: str, tmp_path: Path) -> None:
    async with a_fleet(database, tmp_path, 1) as fleet:
        fleet.sandbox.faults.add(kind=Delay(30), method="POST", times=None)
        await fleet.add(10)
        (worker,) = fleet.workers
        await until_sending(fleet.sandbox)
        worker.process.send_signal(signal.SIGTERM)
        await until(lambda: "being finished" in worker.log)
        assert await worker.probe("/ready") == 503
        assert await worker.probe("/health") == 200
        assert await worker.end(signal.SIGTERM) == 128 + signal.SIGTERM


@pytest.mark.thorough
async def test_a_worker_whose_token_is_revoked_says_so_and_ends_and_the_rest_waits(
    database: str, tmp_path: Path
) -> None:
    async with a_fleet(database, tmp_path, 1) as fleet:
        await fleet.add(60)
        await fleet.until_delivered(10)
        fleet.sandbox.revoke_token(fleet.token)
        assert await fleet.workers[0].ended() == 1

        log = fleet.workers[0].log
        assert "another token" in log
        assert "Nothing is lost" in log
        waiting = (await fleet.campaign()).counts.open
        assert waiting > 0
        fleet.token = fleet.sandbox.issue_token()
        (tmp_path / "healthmsg_token").write_text(fleet.token)
        await fleet.start()
        await fleet.until_delivered(60)
        await fleet.until_noted()
        fleet.check_all_once()
        fleet.check_nothing_private()


@pytest.mark.thorough
async def test_workers_renew_a_stored_token_once_when_it_is_refused_and_go_on(
    database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = tmp_path / "keys"
    keys.write_text(TokenCipher.new_key())
    async with a_fleet(database, tmp_path, 0, refresh_tokens=True, revoke_on_reuse=True) as fleet:
        sandbox = fleet.sandbox
        token = Token(fleet.token, refresh_token=sandbox.issue_token(refresh=True))
        cipher = TokenCipher(keys.read_text())
        await SQLTokenStore(database, cipher).save("practice", token)
        for name, value in {
            "HEALTHMSG_TOKEN_STORE": database,
            "HEALTHMSG_TOKEN_USER": "practice",
            "HEALTHMSG_TOKEN_KEYS_FILE": str(keys),
            "HEALTHMSG_TOKEN_URL": str(sandbox.environment.token_url),
            "HEALTHMSG_CLIENT_ID": sandbox.client_id,
            "HEALTHMSG_CLIENT_SECRET": sandbox.client_secret,
        }.items():
            monkeypatch.setenv(name, value)
        for _ in range(2):
            await fleet.start(with_token=False)
        for worker in fleet.workers:
            await worker.until_it_is("/ready", 200)
        await fleet.add(90)
        await fleet.until_delivered(20)
        sandbox.revoke_token(fleet.token)
        await fleet.until_delivered(90)
        await fleet.until_noted()

        assert sum("oauth" in call.path for call in sandbox.calls) == 1
        for worker in fleet.workers:
            assert await worker.end(signal.SIGTERM) == 0
            assert "another token" not in worker.log
        fleet.check_all_once()
        fleet.check_nothing_private()
        assert sandbox.rejected == 0


class RestartablePostgreSQL:
    """A PostgreSQL of one test's own, which is stopped and started again."""

    def __init__(self, folder: str) -> None:
        self.folder = Path(folder)
        lines = (self.folder / "data/postmaster.pid").read_text().splitlines()
        self.pid = int(lines[0])
        self._command = Path(f"/proc/{self.pid}/cmdline").read_bytes().rstrip(b"\0").decode().split("\0")
        self._user = self.folder.owner()
        self._again: subprocess.Popen[bytes] | None = None

    async def stop(self) -> None:
        """Stop it as a restart does: who is connected is cut off."""
        os.kill(self.pid, signal.SIGINT)
        await until(lambda: not (self.folder / "data/postmaster.pid").exists())

    def start(self) -> None:
        self._again = subprocess.Popen(  # noqa: S603 - the same again
            self._command,
            user=self._user if os.geteuid() == 0 else None,
            cwd=self.folder,
            stderr=subprocess.DEVNULL,
        )

    def end(self) -> None:
        if self._again is not None:
            self._again.kill()
            self._again.wait()


@pytest.fixture
def restartable() -> Iterator[RestartablePostgreSQL]:
    with running_postgresql() as folder:
        server = RestartablePostgreSQL(folder)
        yield server
        server.end()


@pytest.mark.thorough
async def test_while_the_database_is_away_workers_live_and_are_not_ready_and_then_go_on(
    restartable: RestartablePostgreSQL, tmp_path: Path
) -> None:
    journal = f"postgresql+asyncpg://postgres@/postgres?host={restartable.folder}"
    async with a_fleet(journal, tmp_path, 2) as fleet:
        for worker in fleet.workers:
            await worker.until_it_is("/ready", 200)
        await fleet.add(120)
        await fleet.until_delivered(30)
        await restartable.stop()
        for worker in fleet.workers:
            await worker.until_it_is("/ready", 503)
            assert await worker.probe("/health") == 200
            await until(lambda worker=worker: "NOT SENDING" in worker.log)  # type: ignore[misc]
        seen = fleet.delivered.total()
        await asyncio.sleep(3)
        assert fleet.delivered.total() - seen <= 30
        assert all([await worker.probe("/health") == 200 for worker in fleet.workers])

        restartable.start()
        for worker in fleet.workers:
            await worker.until_it_is("/ready", 200)
        await fleet.until_delivered(120)
        await fleet.until_noted()
        for worker in fleet.workers:
            assert await worker.end(signal.SIGTERM) == 0
            assert "Sends again" in worker.log

        fleet.check_all_once()
        fleet.check_nothing_private()
        assert fleet.sandbox.rejected == 0
