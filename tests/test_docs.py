"""The documents name what exists."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

import healthmsg
from healthmsg.database.states import State

ROOT: Final = Path(__file__).parent.parent
DOCUMENTS: Final = [
    "CONTRIBUTING.md",
    "docs/architecture.md",
    "docs/glossary.md",
    "docs/bots.md",
    "docs/fleet.md",
]
_CODE: Final = re.compile(r"`([^`\n]+)`")
_PATH: Final = re.compile(r"\.?[\w-]+(?:/[\w.-]+)*/?")


def paths_named_in(text: str) -> Iterator[str]:
    """Return each path in backticks; `a/b.py` `c.py` stands for `a/b.py` `a/c.py`."""
    folder = ""
    for line in text.splitlines():
        for code in _CODE.findall(line):
            if not _PATH.fullmatch(code) or not (
                "/" in code or code.endswith((".py", ".md", ".toml", ".yaml"))
            ):
                continue
            if "/" in code:
                folder = code.rpartition("/")[0] if not code.endswith("/") else folder
                yield code
            else:
                yield code if (ROOT / code).exists() else f"{folder}/{code}"


@pytest.mark.parametrize("name", DOCUMENTS)
def test_every_path_that_is_named_exists(name: str) -> None:
    text = (ROOT / name).read_text(encoding="utf-8")
    named = [path.replace("\\", "") for path in paths_named_in(text)]
    parts = ("healthmsg/", "", "healthmsg/sandbox/")

    assert named
    assert [path for path in named if not any((ROOT / part / path).exists() for part in parts)] == []


def test_every_room_of_the_package_is_in_the_architecture() -> None:
    text = (ROOT / "docs/architecture.md").read_text(encoding="utf-8")
    package = Path(healthmsg.__file__).parent
    rooms = [path.name for path in package.iterdir() if (path / "__init__.py").exists()]
    modules = [path.name for path in package.glob("*.py")]

    assert [room for room in rooms if f"{room}/" not in text] == []
    assert [module for module in modules if module not in text] == []


def test_every_step_and_state_is_in_the_architecture() -> None:
    text = (ROOT / "docs/architecture.md").read_text(encoding="utf-8")
    pipeline = Path(healthmsg.__file__).parent / "pipeline"
    steps = {path.stem for path in pipeline.glob("*.py")} - {"__init__", "request"}

    assert [step for step in sorted(steps) if f"│  {step} " not in text] == []
    assert [state.name for state in State if state.name not in text] == []


def test_the_order_of_the_steps_is_that_of_the_pipeline() -> None:
    from healthmsg import pipeline

    text = (ROOT / "docs/architecture.md").read_text(encoding="utf-8")
    drawn = re.findall(r"^ +│  (\w+) ", text, re.MULTILINE)

    assert " → ".join(drawn) in (pipeline.__doc__ or "")
