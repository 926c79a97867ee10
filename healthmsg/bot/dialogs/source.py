"""What in the source of a dialog would be something else at each replay, or would not be done at all."""

import ast
import asyncio
import inspect
import random
import secrets
import textwrap
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import date, datetime
from types import BuiltinMethodType, CodeType, MethodType, ModuleType
from typing import Any, Final

from attrs import frozen

_NOW: Final = "use await d.now()"
_MODULES: Final[Mapping[str, str]] = {
    random.__name__: "use await d.random()",
    secrets.__name__: "use await d.once(...)",
    time.__name__: "use await d.now(), and d.sleep(...) to wait",
    asyncio.__name__: "a dialog awaits its Dialog alone; use d.once(...) or d.sleep(...)",
}
_OF_UUID: Final = frozenset({"uuid1", "uuid4"})
_OF_TIME: Final = frozenset(
    {"time", "time_ns", "monotonic", "monotonic_ns", "perf_counter", "localtime", "gmtime", "sleep"}
)
_OF_DATES: Final = frozenset({"now", "utcnow", "today"})

STEPS: Final = frozenset(
    {
        *(
            "ask",
            "text",
            "number",
            "email",
            "phone",
            "date",
            "confirm",
            "choice",
            "choices",
            "files",
            "mention",
        ),
        *("verification", "ask_all", "say", "once", "sleep", "now", "random", "uuid", "mark", "hand_over"),
        *("run", "restart"),
    }
)
"""The methods of a `Dialog` that must be awaited."""
_AWAIT: Final = "write `await` in front of it, or it is not done"

_MOST_PARTS: Final = 100
"""Functions of one dialog that are looked through."""


@frozen
class Finding:
    """A call in a dialog that does not stand a replay, or is not awaited."""

    file: str
    line: int
    what: str
    advice: str


def look_through(function: Callable[..., Any]) -> list[Finding]:
    """Return the calls in a function that would not stand a replay; none, where its source is not there.

    Steps that stand alone without `await` are among them. A function that it hands its `Dialog` to is a part
    of it. What stands in a function within it, such as a lambda for `d.once`, does not count.
    """
    found, seen, left = list[Finding](), set[CodeType](), [function]
    while left and len(seen) < _MOST_PARTS:
        part = inspect.unwrap(left.pop(0))
        if part.__code__ not in seen:
            seen.add(part.__code__)
            found += _looked_through(part, left)
    return found


def _looked_through(function: Callable[..., Any], parts: list[Callable[..., Any]]) -> list[Finding]:
    """Return the calls in one function, and add the functions that are parts of the same dialog."""
    code = function.__code__
    try:
        lines, first = inspect.getsourcelines(code)
        tree = ast.parse(textwrap.dedent("".join(lines)))
    except (OSError, SyntaxError, TypeError):
        return []
    names = _names_of(function, tree)
    found = []
    for call, is_alone in _calls(tree.body[0]):
        if (part := _part_of(call, names, code.co_varnames[:1])) is not None:
            parts.append(part)
        dotted = ast.unparse(call.func)
        is_lost = is_alone and (part is not None or _is_step(call, code.co_varnames[:1]))
        advice = _AWAIT if is_lost else _advice(call.func, names)
        if advice:
            found.append(Finding(code.co_filename, first + call.lineno - 1, f"{dotted}()", advice))
    return found


def _part_of(call: ast.Call, names: Mapping[str, object], dialog: Sequence[str]) -> Callable[..., Any] | None:
    """Return the `async def` that a dialog is handed to: as an argument, or with `d.run(…)`."""
    called = call.func
    if any(isinstance(one, ast.Name) and one.id in dialog for one in call.args):
        found = _value_of(called, names)
    elif (
        call.args
        and isinstance(called, ast.Attribute)
        and ast.unparse(called) in {f"{d}.run" for d in dialog}
    ):
        found = _value_of(call.args[0], names)
    else:
        return None
    return found if inspect.iscoroutinefunction(found) and inspect.isfunction(found) else None


def _is_step(call: ast.Call, dialog: Sequence[str]) -> bool:
    called = call.func
    return (
        isinstance(called, ast.Attribute)
        and isinstance(called.value, ast.Name)
        and called.value.id in dialog
        and called.attr in STEPS
    )


def _calls(function: ast.AST) -> Iterator[tuple[ast.Call, bool]]:
    """Yield the calls, and of each whether it is a statement of its own."""
    for child in ast.iter_child_nodes(function):
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda | ast.ClassDef):
            continue
        if isinstance(child, ast.Call):
            yield child, isinstance(function, ast.Expr)
        yield from _calls(child)


def _names_of(function: Callable[..., Any], tree: ast.AST) -> dict[str, object]:
    found = inspect.getclosurevars(function)
    names: dict[str, object] = {**found.globals, **found.nonlocals}
    # What the function imports itself is known by its name, as long as it is one of those looked for.
    modules = {module.__name__: module for module in (random, secrets, time, asyncio, uuid)}
    modules["datetime"] = inspect.getmodule(datetime) or random
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name in modules:
                    names[alias.asname or alias.name] = modules[alias.name]
        elif isinstance(node, ast.ImportFrom) and node.module in modules:
            for alias in node.names:
                names[alias.asname or alias.name] = getattr(modules[node.module], alias.name, None)
    return names


def _advice(called: ast.expr, names: Mapping[str, object]) -> str | None:
    """Return what to do instead of a call; `None`: there is nothing wrong with it."""
    found = _value_of(called, names)
    owner = getattr(found, "__self__", None) if isinstance(found, BuiltinMethodType | MethodType) else None
    name = getattr(found, "__name__", "")
    if isinstance(owner, type) and issubclass(owner, date) and name in _OF_DATES:
        return _NOW
    if found is random.SystemRandom or isinstance(owner, random.Random) or found is random.Random:
        return _MODULES[random.__name__]
    module = getattr(found, "__module__", None) or ""
    if module == uuid.__name__ and name in _OF_UUID:
        return "use await d.uuid()"
    if module == time.__name__ or (isinstance(owner, ModuleType) and owner is time):
        return _MODULES[time.__name__] if name in _OF_TIME else None
    return _MODULES.get(module.partition(".")[0]) if module != random.__name__ else _MODULES[module]


def _value_of(expression: ast.expr, names: Mapping[str, object]) -> object:
    """Return what a dotted name stands for, as long as it goes through modules and classes."""
    if isinstance(expression, ast.Name):
        return names.get(expression.id)
    if isinstance(expression, ast.Attribute):
        owner = _value_of(expression.value, names)
        if isinstance(owner, ModuleType | type):
            return getattr(owner, expression.attr, None)
    return None
