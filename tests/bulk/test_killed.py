"""A sender that is killed at random, against a service that fails: nothing is lost, nothing comes twice."""

from datetime import timedelta
from pathlib import Path

import pytest

from healthmsg.sandbox import Habits
from tests.bulk.killing import Aftermath, killed_again_and_again, one_of_several_killed

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(
    "habits",
    [Habits(), pytest.param(Habits(resolution=timedelta(microseconds=1)), marks=pytest.mark.thorough)],
    ids=["whole seconds", "microseconds"],
)
async def test_a_sender_that_is_killed_and_started_again_sends_everything_once(
    tmp_path: Path, habits: Habits
) -> None:
    journal = str(tmp_path / "recall.db")
    found = await killed_again_and_again(journal, tmp_path, kills=3, seed=6, habits=habits)
    assert found == Aftermath(kills=3)


async def test_so_does_one_with_a_journal_in_a_database(database: str, tmp_path: Path) -> None:
    assert await killed_again_and_again(database, tmp_path, kills=3, seed=6) == Aftermath(kills=3)


async def test_workers_that_share_a_journal_send_everything_once_though_one_is_killed(
    database: str, tmp_path: Path
) -> None:
    assert await one_of_several_killed(database, tmp_path, workers=3, seed=6) == Aftermath(kills=1)
