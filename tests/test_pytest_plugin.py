"""The fixture, as the users' own test runs see it: each of these is a pytest of its own."""

import subprocess
import sys
from pathlib import Path

import pytest

USES_IT = """
import pytest
from aiohttp import ClientSession

@pytest.mark.asyncio
async def test_the_sandbox_answers(healthmsg_sandbox):
    headers = {"Authorization": f"Bearer {healthmsg_sandbox.issue_token()}"}
    async with ClientSession(headers=headers) as session:
        async with session.get(f"{healthmsg_sandbox.environment.api_url}/me") as answer:
            assert answer.status == 200
"""


# Plugins that these runs do not need, and that take seconds to load.
OTHERS = [f"-pno:{name}" for name in ("schemathesis", "hypothesispytest", "xdist", "anyio")]


def run_pytest(folder: Path, test: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    (folder / "test_users_own.py").write_text(test)
    command = [sys.executable, "-m", "pytest", "-W", "error", *OTHERS, *arguments, str(folder)]
    return subprocess.run(  # noqa: S603 - our own command
        command, cwd=folder, capture_output=True, text=True, timeout=60, check=False
    )


@pytest.mark.slow
def test_the_fixture_works_in_the_strict_mode_of_pytest_asyncio(tmp_path: Path) -> None:
    # In the auto mode, the example in README.md is tested.
    (tmp_path / "pytest.ini").write_text("[pytest]\nasyncio_default_fixture_loop_scope = function\n")
    result = run_pytest(tmp_path, USES_IT, "--asyncio-mode", "strict")
    assert "1 passed" in result.stdout, result.stdout


@pytest.mark.slow
@pytest.mark.parametrize("fixture", ["healthmsg_sandbox", "healthmsg_bot"])
def test_without_pytest_asyncio_it_says_what_is_missing(tmp_path: Path, fixture: str) -> None:
    test = f"def test_it({fixture}): pass"
    result = run_pytest(tmp_path, test, "-p", "no:asyncio", "-p", "no:looptime")
    assert result.returncode != 0
    assert "needs pytest-asyncio" in result.stdout


def test_the_plugin_alone_imports_neither_aiohttp_nor_the_sandbox() -> None:
    script = (
        "import sys, healthmsg.pytest_plugin\n"
        "heavy = {'aiohttp', 'pytest_asyncio', 'healthmsg.sandbox', 'healthmsg.bot'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", script], check=True, timeout=60)  # noqa: S603 - our own command
