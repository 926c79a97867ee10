"""Running a worker in this process until it is stopped."""

import asyncio
import os
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from attrs import asdict, define, field

from healthmsg.aio import start
from healthmsg.bulk.models import JournalTarget
from healthmsg.cli.bots.lines import clock_time
from healthmsg.cli.bots.running import ControlAt, Say
from healthmsg.cli.stopping import Stopping
from healthmsg.cli.terminal import without_blocking_output
from healthmsg.cli.working.lines import Trouble, WorkerLog, figures, limit_away, trouble_of
from healthmsg.cli.working.options import ProbesAt
from healthmsg.client import Client
from healthmsg.worker import Worker, WorkerStats

if TYPE_CHECKING:
    from healthmsg.control.server import Answer, Asked
    from healthmsg.otel import WorkerFigures, WorkerMetrics

# Seconds between two looks at the worker, for its log and its metrics.
_LOOK_EVERY: Final = 1.0


@define(eq=False)
class WorkerRun:
    """One run of a worker."""

    make_client: Callable[[], Awaitable[Client]] = field(repr=False)
    journal: JournalTarget = field(repr=False)
    say: Say
    probes: ProbesAt | None = None
    control: ControlAt | None = None
    metrics: "WorkerMetrics | None" = None
    is_quiet: bool = False
    """Whether there are no lines with figures."""
    settle: float = 90.0
    end_at_once: Callable[[int], object] = os._exit
    make_worker: Callable[..., Worker] = Worker
    failure: Exception | None = field(default=None, init=False, repr=False)
    """What the worker has ended with."""
    _worker: Worker | None = field(default=None, init=False, repr=False)
    _client: Client | None = field(default=None, init=False, repr=False)
    _stopping: Stopping = field(init=False, repr=False)
    _task: "asyncio.Task[None] | None" = field(default=None, init=False, repr=False)

    def __attrs_post_init__(self) -> None:
        self._stopping = Stopping(self._stop, self.end_at_once)

    def main(self) -> int:
        """Run, and return the exit status.

        Raises:
            HealthmsgError: it cannot begin, or cannot go on.
            RefusedError: the client cannot be made.
            OSError: it cannot begin.
        """
        with without_blocking_output():
            return asyncio.run(self.run())

    async def run(self) -> int:
        """Run until it is stopped. A second signal ends the process at once, as a kill would."""
        self._task = start(self._run(), name="healthmsg worker")
        await self._stopping.run(self._task)
        return self._stopping.exit_code

    @property
    def is_ready(self) -> bool:
        """Whether it sends, or would if there were something to send; not once it is being stopped."""
        worker = self._worker
        if worker is None or self._stopping.number:
            return False
        return worker.is_ready and self.trouble is None

    @property
    def trouble(self) -> Trouble | None:
        """What keeps it from sending."""
        if self._worker is not None and (problem := self._worker.problem) is not None:
            return trouble_of(problem)
        if self._client is not None:
            limit = self._client.stats().limit
            # What is leased is used up first; with `fallback="divide"`, a part is held all the time.
            if limit.store_away_for is not None and not limit.held:
                return limit_away()
        return None

    async def _run(self) -> None:
        async with AsyncExitStack() as stack:
            # The probes first: they say that it is not ready, while it opens the journal.
            await self._serve(stack)
            self._client = await stack.enter_async_context(await self.make_client())
            self._worker = worker = self.make_worker(self._client, self.journal, settle=self.settle)
            self._say("Started. SIGTERM or Ctrl-C: finish what is under way, and end; twice: end at once.")
            watching = start(self._watch(worker), name="healthmsg worker's log")
            try:
                await worker.run()
            except Exception as error:
                self.failure = error
                raise
            finally:
                watching.cancel()
                await asyncio.wait([watching])
                self._report(worker)
                self._say(f"Ended: {figures(worker.stats())}.")

    async def _watch(self, worker: Worker) -> None:
        written = WorkerLog(self.is_quiet)
        now = asyncio.get_running_loop().time
        while True:
            for line in written.lines(self.trouble, worker.stats(), now(), is_ready=worker.is_ready):
                self._say(line)
            self._report(worker)
            await asyncio.sleep(_LOOK_EVERY)

    def _report(self, worker: Worker) -> None:
        if self.metrics is not None:
            self.metrics.report(self._figures(worker.stats()))

    def _figures(self, stats: WorkerStats) -> "WorkerFigures":
        from healthmsg.otel import WorkerFigures  # noqa: PLC0415 - an extra's

        return WorkerFigures(
            delivered=stats.delivered,
            not_sent=stats.not_sent,
            unknown=stats.unknown,
            under_way=stats.under_way,
            waiting=stats.waiting,
            slots=None if self._client is None else self._client.stats().limit.held,
            is_ready=self.is_ready,
        )

    # --- over HTTP

    async def _serve(self, stack: AsyncExitStack) -> None:
        if self.probes is None and self.control is None:
            return
        # aiohttp's server, for those who want it
        from healthmsg.control.server import ControlServer, Route, probe  # noqa: PLC0415

        open_to_all: tuple[Route, ...] = (
            # While this answers at all, the event loop runs; when the worker has ended, so has the process.
            probe("/health", "alive", lambda: self._task is not None and not self._task.done()),
            probe("/ready", "ready", lambda: self.is_ready),
        )
        if self.probes is not None:
            server = ControlServer(open_to_all, None, self.probes.port, self.probes.host)
            await stack.enter_async_context(server)
            self._say(f"Probes: /health and /ready on {self.probes.host}:{server.port}.")
        if self.control is not None:
            routes = (*open_to_all, Route("GET", "/stats", self._stats))
            server = ControlServer(routes, self.control.token, self.control.port)
            await stack.enter_async_context(server)
            self._say(f"Figures: /stats on 127.0.0.1:{server.port}, for those who hold the token.")

    async def _stats(self, _: "Asked") -> "Answer":
        from healthmsg.control.server import Answer  # noqa: PLC0415 - loaded by now

        worker, client = self._worker, self._client
        document: dict[str, object] = {"ready": self.is_ready, "stopping": bool(self._stopping.number)}
        if worker is not None and client is not None:
            document["problem"] = None if (trouble := self.trouble) is None else trouble.line
            document["worker"] = worker.stats().to_dict()
            document["client"] = asdict(client.stats())
        return Answer(document)

    # --- stopping

    def _say(self, text: str) -> None:
        self.say(f"{clock_time(datetime.now(UTC))}  {text}")

    def _stop(self) -> None:
        if self._worker is not None:
            self._say("Stopping: what is under way is being finished, and nothing more is begun.")
            self._worker.stop()
        elif self._task is not None:
            self._task.cancel()
