"""Finding an author's bot by `module:bot`, and saying where in the author's files something is wrong.

A worker's client is found in the same way.
"""

import importlib
import inspect
import site
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path
from traceback import walk_tb
from typing import Final, cast

from healthmsg.bot.surface import BotSurface
from healthmsg.cli.problems import RefusedError, error_text
from healthmsg.errors import HealthmsgError

# What these say is about code. What others say may be about data.
_ABOUT_CODE: Final = (SyntaxError, ImportError, NameError, AttributeError)
_OURS: Final = Path(__file__).resolve().parents[2]


def parse_name(target: str, kind: str = "bot") -> tuple[str, str]:
    """Return module and name out of `module:bot`.

    Raises:
        RefusedError: it is not written so. The message calls it by its kind.
    """
    module, colon, name = target.partition(":")
    if module.endswith(".py") or "/" in module or "\\" in module:
        raise RefusedError(f"the {kind} is named as module:{kind}, as in an import: not by its file")
    words = [*module.split("."), *name.split(".")]
    if not colon or not all(word.isidentifier() for word in words):
        raise RefusedError(
            f"the {kind} is named as module:{kind}, where {kind} is a {kind.capitalize()} or a function that"
            " returns one"
        )
    return module, name


def load_bot(target: str) -> BotSurface:
    """Import a module and return its bot; a function without arguments is called for it.

    Modules are looked for in the present folder first, as with `python -m`.

    Raises:
        RefusedError: there is no such module or bot; or the module's own code fails: it says where.
    """
    found = load(target)
    if inspect.iscoroutine(found):
        found.close()
    if is_bot(found):
        return cast("BotSurface", found)
    raise RefusedError(
        f"{target} is no Bot, and no function without arguments that returns one, but of the type"
        f" {type(found).__name__}"
    )


def is_bot(found: object) -> bool:
    """Return whether it can be run as a bot."""
    return not isinstance(found, type) and all(
        callable(getattr(type(found), name, None)) for name in ("run", "stop_when_idle", "start_dialog")
    )


def load(target: str, kind: str = "bot") -> object:
    """Import a module and return what it has there, or what that returns, if it is a function.

    Raises:
        RefusedError: as `load_bot` does.
    """
    module_name, name = parse_name(target, kind)
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        found: object = importlib.import_module(module_name)
        for word in name.split("."):
            if not hasattr(found, word):
                raise RefusedError(f"the module {module_name} has no {name}")
            found = getattr(found, word)
        return found() if inspect.isroutine(found) else found
    except RefusedError:
        raise
    except ModuleNotFoundError as error:
        if error.name and f"{module_name}.".startswith(f"{error.name}."):
            problem = f"there is no module {error.name} in this folder, nor where Python looks for modules"
        else:
            problem = problem_in_code(error)
    except (Exception, SystemExit) as error:  # noqa: BLE001 - whatever an author's module does
        problem = problem_in_code(error)
    # Outside the `except`, so that no traceback of the author's, or of ours, is shown with it.
    raise RefusedError(problem)


def problem_in_code(error: BaseException) -> str:
    """Return file and line of an author's code, and what is wrong there, as far as that cannot be private."""
    if isinstance(error, HealthmsgError):
        what = error_text(error)
    elif isinstance(error, SyntaxError):
        what = f"{type(error).__name__}: {error.msg}"
    elif isinstance(error, _ABOUT_CODE):
        what = f"{type(error).__name__}: {error}"
    else:
        what = type(error).__name__
    place = _place(error)
    return f"{place}: {what}" if place else what


def _place(error: BaseException) -> str:
    if isinstance(error, SyntaxError) and error.filename:
        return f"{_short(error.filename)}:{error.lineno}"
    frames = [(frame.f_code.co_filename, line) for frame, line in walk_tb(error.__traceback__)]
    authors = [(file, line) for file, line in frames if _is_authors(file)]
    if not authors:
        return ""
    file, line = authors[-1]
    return f"{_short(file)}:{line}"


def _short(file: str) -> str:
    path = Path(file)
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else file


def _is_authors(file: str) -> bool:
    path = Path(file)
    return path.is_file() and not any(path.is_relative_to(folder) for folder in _folders_of_others())


def _folders_of_others() -> Iterator[Path]:
    yield _OURS
    for name in ("stdlib", "platstdlib", "purelib", "platlib"):
        yield Path(sysconfig.get_path(name))
    yield Path(site.getusersitepackages())


def folder_to_watch(target: str) -> Path:
    """Return the folder of the module's files: that of its outermost package, or the one the module is in.

    Nothing is imported.

    Raises:
        RefusedError: there is no such module.
    """
    top = parse_name(target)[0].partition(".")[0]
    for entry in dict.fromkeys([str(Path.cwd()), *sys.path]):
        folder = Path(entry or ".")
        if (folder / top).is_dir():
            return (folder / top).resolve()
        if (folder / f"{top}.py").is_file():
            return folder.resolve()
    raise RefusedError(f"there is no module {top} in this folder, nor where Python looks for modules")
