"""What is public: one list in the package's `__init__`, and the stub that is written from it."""

import inspect
import json
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from typing import Final

import pytest

import healthmsg
from healthmsg import errors

HOMES: Final[dict[str, str]] = vars(healthmsg)["_HOMES"]
STUB: Final = Path(vars(healthmsg)["__file__"]).with_suffix(".pyi")
CAUGHT: Final = {
    *("HealthmsgError", "CallError", "DeliveryUnknownError", "NotFoundError", "ForbiddenError"),
    *("UnauthorizedError", "RateLimitedError", "QuotaExceededError", "ConnectError", "CallTimeoutError"),
    *("ReauthorizationRequiredError", "InvalidInputError", "ConfigurationError", "JournalError"),
}


def stub() -> str:
    """Write the list as type checkers read it."""
    # As ruff sorts them: classes before functions, and small letters like capitals.
    imports = sorted(
        ((home, name) for name, home in HOMES.items()),
        key=lambda one: (one[0], one[1][0].islower(), one[1].lower()),
    )
    return "".join(
        [
            "# What is public, for type checkers. `python -m tests.test_public_names` writes it.\n\n",
            *(f"from {home} import {name} as {name}\n" for home, name in imports),
            "\n__all__ = [\n",
            *(f'    "{name}",\n' for name in healthmsg.__all__),
            "]\n",
        ]
    )


def in_a_fresh_interpreter(script: str) -> object:
    done = subprocess.run(  # noqa: S603 - our own script
        [sys.executable, "-W", "error", "-c", script], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_all_is_sorted_and_complete() -> None:
    assert healthmsg.__all__ == sorted(HOMES.keys() - {"RedisTokenStore", "SQLTokenStore", "TokenCipher"})
    assert len(healthmsg.__all__) > 60


def test_type_checkers_see_the_same_list() -> None:
    assert STUB.read_text(encoding="utf-8") == stub()


def test_the_errors_that_programs_catch_are_at_the_top() -> None:
    assert {name for name, home in HOMES.items() if home == "healthmsg.errors"} == CAUGHT


def test_every_error_is_public_in_its_module() -> None:
    every = {
        name
        for name, value in inspect.getmembers(errors, inspect.isclass)
        if issubclass(value, Exception) and not name.startswith("_")
    }

    assert every <= set(errors.__all__)
    assert errors.__all__ == sorted(errors.__all__)
    assert every >= CAUGHT


@pytest.mark.parametrize("name", sorted(HOMES))
def test_every_name_is_the_object_of_its_home(name: str) -> None:
    assert getattr(healthmsg, name) is getattr(import_module(HOMES[name]), name)


@pytest.mark.parametrize("name", ["DiscordError", "ServerError", "aiohttp", "_secret", "TypeVar", ""])
def test_an_unknown_name_is_an_attribute_error(name: str) -> None:
    with pytest.raises(AttributeError, match=f"'healthmsg' has no attribute '{name}'"):
        getattr(healthmsg, name)


def test_the_errors_are_there_as_soon_as_the_package_is() -> None:
    script = "import healthmsg; print(healthmsg.errors.ServerError.__name__)"
    done = subprocess.run(  # noqa: S603 - our own script
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )

    assert done.stdout == "ServerError\n"


def test_dir_gives_what_is_public() -> None:
    assert dir(healthmsg) == sorted(HOMES)


def test_importing_the_package_loads_nothing_heavy() -> None:
    loaded = in_a_fresh_interpreter(
        "import sys, json, healthmsg; print(json.dumps([name for name in sys.modules]))"
    )

    assert isinstance(loaded, list)
    assert "healthmsg" in loaded
    heavy = {"aiohttp", "cattrs", "attrs", "attr", "orjson", "oauthlib", "asyncio"}
    assert heavy.isdisjoint(loaded)
    assert [name for name in loaded if name.startswith("healthmsg.")] == []


def test_importing_the_client_loads_only_what_every_program_needs() -> None:
    loaded = in_a_fresh_interpreter(
        "import sys, json; from healthmsg import Client; print(json.dumps([name for name in sys.modules]))"
    )

    assert isinstance(loaded, list)
    assert {"healthmsg.client", "aiohttp"} <= set(loaded)
    rarely_needed = {
        *("healthmsg.bulk", "healthmsg.files", "healthmsg.downloads", "healthmsg.sandbox", "healthmsg.cli"),
        *("healthmsg.auth.oauth", "healthmsg.auth.stores", "healthmsg.delivery.proof"),
        *("healthmsg.delivery.rewriting", "healthmsg.otel", "healthmsg.progress"),
        *("cattrs", "aiolimiter", "importlib.metadata", "content_types", "oauthlib"),
        *(
            "phonenumbers",
            "email_validator",
            "dns",
            "sqlalchemy",
            "sqlite3",
            "opentelemetry",
            "rich",
            "typer",
        ),
    }
    assert rarely_needed.isdisjoint(loaded)


def test_a_name_is_loaded_when_it_is_first_used() -> None:
    loaded = in_a_fresh_interpreter(
        "import sys, json, healthmsg; healthmsg.HealthmsgError; healthmsg.Environment;"
        "print(json.dumps([name for name in sys.modules]))"
    )

    assert isinstance(loaded, list)
    assert "healthmsg.errors" in loaded
    assert {"aiohttp", "cattrs"}.isdisjoint(loaded)


@pytest.mark.slow
def test_a_star_import_gives_every_public_name_and_loads_no_extra() -> None:
    names = in_a_fresh_interpreter(
        "import json, sys\nfor extra in ('redis', 'sqlalchemy', 'cryptography', 'typer', 'opentelemetry'):\n"
        "    sys.modules[extra] = None\nnames = {}\nexec('from healthmsg import *', names)\n"
        "print(json.dumps(sorted(set(names) - {'__builtins__'})))"
    )

    assert names == healthmsg.__all__


if __name__ == "__main__":
    STUB.write_text(stub(), encoding="utf-8")
