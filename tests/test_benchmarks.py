"""The servers of the benchmarks speak HTTP: what is measured there, is measured with whole answers."""

import asyncio
import re
import sys
from pathlib import Path
from typing import Final

import pytest

from healthmsg import Client, Environment, UploadFile

BENCHMARKS: Final = Path(__file__).parents[1] / "benchmarks"


async def test_the_byte_sink_answers_each_upload_of_a_connection() -> None:
    sink = await asyncio.create_subprocess_exec(
        sys.executable, BENCHMARKS / "byte_sink.py", stdout=asyncio.subprocess.PIPE
    )
    try:
        assert sink.stdout is not None
        url = (await sink.stdout.readline()).decode().strip()
        async with Client("t0ken", environment=Environment("sink", f"{url}/v1")) as client:
            chat = client.conversations("c1")
            sent = [await chat.upload(UploadFile(bytes(1000), f"{number}.bin")) for number in range(3)]
    finally:
        sink.kill()
        await sink.wait()

    assert [one.id for one in sent] == [f"m{number:011}" for number in range(3)]


@pytest.mark.slow
@pytest.mark.thorough
async def test_a_fleet_whose_processes_know_nothing_of_each_other_is_refused_two_thirds_of_its_calls() -> (
    None
):
    measuring = await asyncio.create_subprocess_exec(
        *(sys.executable, BENCHMARKS / "fleet.py", "--only", "table", "--size", "3", "--seconds", "4"),
        *("--limit", "each its own", "--limit", "1/N each", "--what", "steady", "--path", "quiet"),
        stdout=asyncio.subprocess.PIPE,
    )
    output, _ = await measuring.communicate()

    shares = dict(re.findall(r"^(each its own|1/N each) .* ([\d.]+)%", output.decode(), re.MULTILINE))
    assert 55 < float(shares["each its own"]) < 70
    assert float(shares["1/N each"]) == 0
