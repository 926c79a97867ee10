"""The recipes: a task that runs twice, or is killed in the middle and run again, enters each message once."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import asyncpg
import pytest
from attrs import define
from procrastinate import PsycopgConnector

from examples import celery_recall, procrastinate_recall
from healthmsg import open_campaigns

ROOT = Path(__file__).parent.parent
CAMPAIGN = "recall-2026"
PATIENTS = 700
# More than are entered at once, so that some of them are in the journal when the task is killed.
BEFORE_THE_KILL = 600
SECONDS = 30.0


def kill(process: "subprocess.Popen[bytes]") -> None:
    """Kill a worker with all its processes, as the end of a machine does."""
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()


@define
class Recipe:
    """A recipe that is tried: its journal, the practice's list, and the variables of its processes."""

    journal: str
    patients: Path
    variables: dict[str, str]

    def start(self, *command: str) -> "subprocess.Popen[bytes]":
        """Start a process of the recipe's."""
        return subprocess.Popen(  # noqa: S603 - the recipe's own
            [sys.executable, "-m", *command],
            cwd=ROOT,
            env={**os.environ, **self.variables},
            start_new_session=True,
        )

    def run(self, *command: str, statuses: tuple[int, ...] = (0,)) -> None:
        """Run one to its end."""
        process = self.start(*command)
        try:
            assert process.wait(SECONDS) in statuses
        finally:
            process.kill()

    async def keys(self) -> list[str]:
        """Return the keys of the messages in the journal."""
        connection = await connect(self.journal)
        try:
            rows = await connection.fetch("SELECT key FROM healthmsg_messages")
        finally:
            await connection.close()
        return sorted(row["key"].removeprefix(f"{CAMPAIGN}/") for row in rows)

    async def counts(self) -> tuple[int, int]:
        """Return how many messages of the campaign wait, and how many it has."""
        async with open_campaigns(self.journal) as campaigns:
            counts = (await campaigns.get(CAMPAIGN)).counts
        return counts.waiting, counts.messages


async def connect(url: str) -> "asyncpg.Connection[asyncpg.Record]":
    """Connect to the database of a URL."""
    parts = urlsplit(url)
    folder = parse_qs(parts.query)["host"][0]
    return await asyncpg.connect(host=folder, user="postgres", database=parts.path.strip("/"))


def rows(first: int, last: int) -> str:
    """Return rows of the practice's list."""
    return "".join(f"p{number:04},conversations/c{number},An\n" for number in range(first, last))


EXPECTED = [f"p{number:04}" for number in range(PATIENTS)]


@pytest.fixture
def recipe(database: str, tmp_path: Path) -> Recipe:
    """Return what a recipe needs, with a list of patients."""
    patients = tmp_path / "patients.csv"
    patients.write_text(f"id,to,name\n{rows(0, PATIENTS)}", encoding="utf-8")
    folder = parse_qs(urlsplit(database).query)["host"][0]
    queue = f"host={folder} user=postgres dbname={urlsplit(database).path.strip('/')}"
    variables = {
        "HEALTHMSG_JOURNAL": database,
        "RECALL_LIST": str(patients),
        "RECALL_QUEUE": queue,
        "RECALL_AGAIN_AFTER": "1",
    }
    return Recipe(database, patients, variables)


@contextmanager
def a_list_that_stops(recipe: Recipe) -> Iterator[Callable[[], None]]:
    """Within, reading the list stops in the middle. What is returned waits until it has been read so far."""
    text = recipe.patients.read_text(encoding="utf-8")
    recipe.patients.unlink()
    os.mkfifo(recipe.patients)
    # Opened for both, so that neither side waits for the other.
    pipe = os.open(recipe.patients, os.O_RDWR)

    def read_so_far() -> None:
        # The pipe takes 64 KiB, which is more than this.
        os.write(pipe, f"id,to,name\n{rows(0, BEFORE_THE_KILL)}".encode())

    try:
        yield read_so_far
    finally:
        os.close(pipe)
        recipe.patients.unlink()
        recipe.patients.write_text(text, encoding="utf-8")


async def until_some_are_entered(recipe: Recipe) -> int:
    """Wait until the task is in the middle, and return how many messages it has entered."""
    deadline = time.monotonic() + SECONDS
    while time.monotonic() < deadline:
        try:
            if found := len(await recipe.keys()):
                return found
        except asyncpg.UndefinedTableError:
            pass
        time.sleep(0.05)  # noqa: ASYNC251 - nothing else runs here
    pytest.fail("nothing was entered")


# --- procrastinate


async def test_a_procrastinate_task_that_runs_twice_enters_each_message_once(
    recipe: Recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in recipe.variables.items():
        monkeypatch.setenv(name, value)
    connector = PsycopgConnector(conninfo=recipe.variables["RECALL_QUEUE"])
    with procrastinate_recall.app.replace_connector(connector) as app:
        async with app.open_async():
            await app.schema_manager.apply_schema_async()
            for _ in range(2):
                await app.configure_task("recall").defer_async(campaign=CAMPAIGN)
            await app.run_worker_async(wait=False, install_signal_handlers=False)

    assert await recipe.keys() == EXPECTED
    assert await recipe.counts() == (PATIENTS, PATIENTS)


@pytest.mark.thorough
async def test_a_procrastinate_task_that_is_killed_in_the_middle_is_run_again_and_loses_nothing(
    recipe: Recipe,
) -> None:
    run = ("procrastinate", "--app", "examples.procrastinate_recall.app")
    recipe.run(*run, "schema", "--apply")
    recipe.run(*run, "defer", "recall", f'{{"campaign": "{CAMPAIGN}"}}')
    with a_list_that_stops(recipe) as read_so_far:
        worker = recipe.start(*run, "worker")
        read_so_far()
        try:
            entered = await until_some_are_entered(recipe)
        finally:
            kill(worker)
    assert 0 < entered < PATIENTS
    time.sleep(1.5)  # noqa: ASYNC251 - after that its worker counts as dead

    # Refused if a minute has begun meanwhile: then it is in the queue already.
    recipe.run(*run, "defer", "run-again", '{"timestamp": 0}', statuses=(0, 1))
    recipe.run(*run, "worker", "--one-shot")

    assert await recipe.keys() == EXPECTED
    assert await recipe.counts() == (PATIENTS, PATIENTS)


# --- Celery


CELERY = ("celery", "--app", "examples.celery_recall")
WORKER = (*CELERY, "worker", "--concurrency", "1", "--without-gossip", "--without-mingle")


def delay(recipe: Recipe) -> None:
    """Have the task run."""
    subprocess.run(  # noqa: S603 - the recipe's own
        [sys.executable, "-c", f"from examples.celery_recall import recall; recall.delay('{CAMPAIGN}')"],
        cwd=ROOT,
        env={**os.environ, **recipe.variables},
        check=True,
    )


@pytest.fixture
def celery(recipe: Recipe, redis_url: str) -> Recipe:
    """Return the recipe with a broker."""
    recipe.variables["RECALL_BROKER"] = f"redis+socket://{urlsplit(redis_url).path}"
    return recipe


async def until_all_are_entered(recipe: Recipe) -> None:
    """Wait until the task has done its work."""
    deadline = time.monotonic() + SECONDS
    while time.monotonic() < deadline:
        try:
            if len(await recipe.keys()) >= PATIENTS:
                return
        except asyncpg.UndefinedTableError:
            pass
        time.sleep(0.05)  # noqa: ASYNC251 - nothing else runs here
    pytest.fail("not all were entered")


async def test_a_celery_task_that_runs_twice_enters_each_message_once(
    recipe: Recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in recipe.variables.items():
        monkeypatch.setenv(name, value)
    task = celery_recall.recall
    # In a thread, as in a process of Celery's: there is no event loop.
    results = [await asyncio.to_thread(task.apply, args=[CAMPAIGN]) for _ in range(2)]

    assert [result.get() for result in results] == [
        {"entered": PATIENTS, "known": 0, "refused": 0},
        {"entered": 0, "known": PATIENTS, "refused": 0},
    ]
    assert await recipe.keys() == EXPECTED


@pytest.mark.slow
@pytest.mark.thorough
async def test_a_celery_task_that_is_killed_in_the_middle_is_run_again_and_loses_nothing(
    celery: Recipe,
) -> None:
    with a_list_that_stops(celery) as read_so_far:
        worker = celery.start(*WORKER)
        delay(celery)
        read_so_far()
        try:
            entered = await until_some_are_entered(celery)
        finally:
            kill(worker)
    assert 0 < entered < PATIENTS

    worker = celery.start(*WORKER)
    try:
        await until_all_are_entered(celery)
    finally:
        worker.terminate()
        worker.wait(SECONDS)

    assert await celery.keys() == EXPECTED
    assert await celery.counts() == (PATIENTS, PATIENTS)
