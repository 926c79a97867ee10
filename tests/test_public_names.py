import ast
import inspect
import json
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

import healthmsg
from healthmsg import errors


def declared() -> dict[str, str]:
    """Read which names type checkers see, and where each comes from."""
    tree = ast.parse(Path(healthmsg.__file__).read_text(encoding="utf-8"))
    (guarded,) = (
        node
        for node in tree.body
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"
    )
    return {
        name.asname or name.name: str(node.module)
        for node in guarded.body
        if isinstance(node, ast.ImportFrom)
        for name in node.names
    }


def in_a_fresh_interpreter(script: str) -> object:
    done = subprocess.run(  # noqa: S603 - our own script
        [sys.executable, "-W", "error", "-c", script], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_all_is_sorted_and_complete() -> None:
    assert healthmsg.__all__ == sorted(set(declared()))
    assert len(healthmsg.__all__) > 60


def test_every_error_is_public() -> None:
    public_errors = {
        name
        for name, value in inspect.getmembers(errors, inspect.isclass)
        if issubclass(value, Exception) and not name.startswith("_")
    }

    assert public_errors <= set(healthmsg.__all__)


@pytest.mark.parametrize("name", sorted(declared()))
def test_every_name_is_the_object_of_its_home(name: str) -> None:
    assert getattr(healthmsg, name) is getattr(import_module(declared()[name]), name)


@pytest.mark.parametrize("name", ["DiscordError", "aiohttp", "_secret", "TypeVar", ""])
def test_an_unknown_name_is_an_attribute_error(name: str) -> None:
    with pytest.raises(AttributeError, match=f"'healthmsg' has no attribute '{name}'"):
        getattr(healthmsg, name)


def test_dir_gives_what_is_public() -> None:
    assert dir(healthmsg) == healthmsg.__all__


def test_importing_the_package_loads_nothing_heavy() -> None:
    loaded = in_a_fresh_interpreter(
        "import sys, json, healthmsg; print(json.dumps([name for name in sys.modules]))"
    )

    assert isinstance(loaded, list)
    assert "healthmsg" in loaded
    heavy = {"aiohttp", "cattrs", "attrs", "attr", "orjson", "oauthlib", "asyncio"}
    assert heavy.isdisjoint(loaded)
    assert [name for name in loaded if name.startswith("healthmsg.")] == []


def test_a_name_is_loaded_when_it_is_first_used() -> None:
    loaded = in_a_fresh_interpreter(
        "import sys, json, healthmsg; healthmsg.HealthmsgError; healthmsg.Environment;"
        "print(json.dumps([name for name in sys.modules]))"
    )

    assert isinstance(loaded, list)
    assert "healthmsg.errors" in loaded
    assert {"aiohttp", "cattrs"}.isdisjoint(loaded)


def test_a_star_import_gives_every_public_name_and_no_other() -> None:
    names = in_a_fresh_interpreter(
        "import json\nnames = {}\nexec('from healthmsg import *', names)\n"
        "print(json.dumps(sorted(set(names) - {'__builtins__'})))"
    )

    assert names == healthmsg.__all__
