"""A sender that sleeps beyond its lease: what it had begun is not sent again when it wakes up."""

from pathlib import Path

import pytest

from tests.bulk.killing import Aftermath
from tests.bulk.suspending import one_of_several_suspended

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(
    "clock_stops",
    [pytest.param(True, marks=pytest.mark.thorough), False],
    ids=["its clock stops", "its clock goes on"],
)
async def test_workers_send_everything_once_though_one_of_them_sleeps(
    database: str, tmp_path: Path, *, clock_stops: bool
) -> None:
    found = await one_of_several_suspended(database, tmp_path, workers=3, seed=1, clock_stops=clock_stops)
    assert found == Aftermath(kills=0)
