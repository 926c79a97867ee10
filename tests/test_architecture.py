"""The rules of the house (design.md): what may import what, and how large things may grow."""

import ast
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest
from attrs import frozen

import healthmsg

ROOT = Path(healthmsg.__file__).parent
FILES = sorted(ROOT.rglob("*.py"))
TREES = {path.relative_to(ROOT): ast.parse(path.read_text(encoding="utf-8")) for path in FILES}

# From the bottom up. A part imports itself and what lies on lower floors, never its own floor's neighbours.
FLOORS = [
    {"version", "json_text", "clock", "log", "file_lock", "aio"},
    {"quota"},
    {"errors"},
    {"structuring", "validation"},
    {"codec"},
    {"environment", "network", "ids", "transfer", "redis_client"},
    {"routes", "live"},
    {"models"},
    {"events"},
    {"paging", "ratelimit"},
    {"pipeline", "task_pool"},
    {"transport", "delivery", "database"},
    {"auth", "files", "api", "fleet"},
    {"downloads"},
    {"resources"},
    {"bulk", "otel"},
    {"assembly"},
    {"gateway"},
    {"client"},
    {"__init__"},
    {"progress", "sandbox", "control"},
    {"bot", "worker"},
    {"cli", "pytest_plugin"},
]
MAY_IMPORT = {part: {part}.union(*FLOORS[:number]) for number, floor in enumerate(FLOORS) for part in floor}
# A service of its own: it shares with the client what goes over the wire, and nothing of how it is sent.
MAY_IMPORT["sandbox"] = {
    *("sandbox", "models", "routes", "codec", "ids", "environment", "errors", "json_text"),
}

_REFUSED_WORDS = re.compile(r"\b(nobody|somebody|whoever|whom|anew|told)\b", re.IGNORECASE)


@frozen
class Import:
    module: str
    line: int
    guarded: bool
    """Under `if TYPE_CHECKING`."""


def module_name(path: Path) -> str:
    return ".".join(("healthmsg", *path.with_suffix("").parts)).removesuffix(".__init__")


MODULES = {module_name(path): path for path in TREES}


def imports_of(node: ast.AST, *, guarded: bool = False) -> Iterator[Import]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.expr):  # most of a tree, without imports
            continue
        if isinstance(child, ast.Import | ast.ImportFrom):
            for module in targets(child):
                yield Import(module, child.lineno, guarded)
        elif isinstance(child, ast.If) and "TYPE_CHECKING" in ast.dump(child.test):
            yield from imports_of(ast.Module(child.body, []), guarded=True)
            yield from imports_of(ast.Module(child.orelse, []), guarded=guarded)
        else:
            yield from imports_of(child, guarded=guarded)


def targets(node: ast.Import | ast.ImportFrom) -> set[str]:
    if isinstance(node, ast.Import):
        return {name.name for name in node.names}
    package = node.module or ""
    submodules = {f"{package}.{name.name}" for name in node.names} & set(MODULES)
    return submodules if len(submodules) == len(node.names) else {package, *submodules}


IMPORTS = {path: tuple(imports_of(tree)) for path, tree in TREES.items()}


def part_of(module: str) -> str:
    """Return the part of the house: `pipeline` for `healthmsg.transport.http`."""
    return f"{module}.__init__".split(".")[1]


def of_package(module: str, package: str) -> bool:
    return module == package or module.startswith(f"{package}.")


def packages_around(module: str) -> Iterator[str]:
    while "." in module:
        module = module.rpartition(".")[0]
        yield module


def functions_of(tree: ast.AST) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    return (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))


def public_definitions(
    node: ast.Module | ast.ClassDef,
) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef]:
    for child in node.body:
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            # The overloads of a function say what its last definition says.
            if child.name.startswith("_") or "'overload'" in "".join(map(ast.dump, child.decorator_list)):
                continue
            yield child
            if isinstance(child, ast.ClassDef):
                yield from public_definitions(child)


def test_the_files_are_found() -> None:
    assert len(FILES) > 30
    assert sum(len(found) for found in IMPORTS.values()) > 200
    assert Path("transport/http.py") in TREES


def test_every_file_has_its_place_in_the_house() -> None:
    assert {part_of(module) for module in MODULES} <= set(MAY_IMPORT)


def test_every_import_is_absolute() -> None:
    relative = [
        f"{path}:{node.lineno}"
        for path, tree in TREES.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.level
    ]

    assert relative == []


def test_imports_go_down_only() -> None:
    upwards = [
        f"{path}:{found.line} imports {found.module}"
        for path, all_found in IMPORTS.items()
        for found in all_found
        if of_package(found.module, "healthmsg")
        and part_of(found.module) not in MAY_IMPORT.get(part_of(module_name(path)), set())
    ]

    assert upwards == []


def test_no_imports_go_in_circles() -> None:
    """Those for types only and those within functions count, and so does a package that holds a module."""
    needs = {
        module: {
            needed
            for found in IMPORTS[path]
            for needed in (found.module, *packages_around(found.module))
            if needed in MODULES and not of_package(module, needed)
        }
        for module, path in MODULES.items()
    }
    assert any(needs.values())

    try:
        TopologicalSorter(needs).prepare()
    except CycleError as error:
        pytest.fail(" needs ".join(error.args[1]))


@pytest.mark.slow
@pytest.mark.thorough
def test_every_package_can_be_the_first_to_be_imported() -> None:
    # Unlike the test above, this takes the packages' own __init__ files along. What is inside a package
    # always comes after its __init__. The sandbox is entered by its front door only.
    packages = {module for module, path in MODULES.items() if path.name == "__init__.py"}
    at_the_top = {module for module in MODULES if module.count(".") == 1 and "__main__" not in module}
    modules = [name for name in packages | at_the_top if not name.startswith("healthmsg.sandbox.")]
    script = """
import importlib, json, sys
failed = {}
for module in json.loads(sys.argv[1]):
    for name in [name for name in sys.modules if name.partition(".")[0] == "healthmsg"]:
        del sys.modules[name]
    try:
        importlib.import_module(module)
    except ImportError as error:
        failed[module] = str(error)
print(json.dumps(failed))
"""
    done = subprocess.run(  # noqa: S603 - our own script
        [sys.executable, "-c", script, json.dumps(modules)], capture_output=True, text=True, check=False
    )

    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {}


def test_aiohttp_is_imported_where_it_is_wrapped_and_nowhere_else() -> None:
    wrapped = {Path(f"transport/{name}.py") for name in ("http", "connections", "multipart", "websocket")}
    importing = {
        path: [found for found in all_found if of_package(found.module, "aiohttp")]
        for path, all_found in IMPORTS.items()
        # A control surface is a server: none of what wraps aiohttp's client is of use there.
        if path.parts[0] != "sandbox" and path != Path("control/server.py")
    }
    strays = [
        f"{path}:{found.line}"
        for path, all_found in importing.items()
        for found in all_found
        if path not in wrapped and not (path == Path("client.py") and found.guarded)
    ]

    assert importing[Path("transport/http.py")]
    assert strays == []


def test_only_the_extra_for_it_imports_opentelemetry() -> None:
    importing = {
        path
        for path, all_found in IMPORTS.items()
        if any(of_package(found.module, "opentelemetry") for found in all_found)
    }

    assert importing == {Path("otel.py")}


def test_every_file_is_under_600_lines() -> None:
    lengths = {str(path): len((ROOT / path).read_text(encoding="utf-8").splitlines()) for path in TREES}

    assert {path: length for path, length in lengths.items() if length >= 600} == {}


def test_every_function_is_under_40_lines() -> None:
    lengths = {
        f"{path}:{function.lineno} {function.name}": (function.end_lineno or 0) - function.lineno + 1
        for path, tree in TREES.items()
        for function in functions_of(tree)
    }

    assert len(lengths) > 200
    assert {function: length for function, length in lengths.items() if length >= 40} == {}


def test_everything_public_says_what_it_is() -> None:
    silent = [
        f"{path}:{definition.lineno} {definition.name}"
        for path, tree in TREES.items()
        if path.parts[0] != "cli"
        for definition in public_definitions(tree)
        if not ast.get_docstring(definition)
    ]

    assert silent == []


def test_every_file_says_what_it_is_for() -> None:
    assert [str(path) for path, tree in TREES.items() if not ast.get_docstring(tree)] == []


def test_no_file_speaks_a_dialect() -> None:
    found = [
        f"{path}:{number} {word.group()}"
        for path in TREES
        for number, line in enumerate((ROOT / path).read_text(encoding="utf-8").splitlines(), start=1)
        for word in _REFUSED_WORDS.finditer(line)
    ]

    assert found == []


def test_docstrings_say_return_and_never_give() -> None:
    found = [
        f"{path}:{definition.lineno} {definition.name}"
        for path in TREES
        for definition in ast.walk(TREES[path])
        if isinstance(definition, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
        and (ast.get_docstring(definition) or "").startswith("Give")
    ]

    assert found == []


def test_every_error_of_the_package_is_defined_in_errors() -> None:
    from healthmsg import errors

    elsewhere = [
        f"{path}:{node.lineno} {node.name}"
        for path, tree in TREES.items()
        if path.parts[0] != "errors"
        for node in ast.walk(tree)
        if isinstance(node, ast.ClassDef)
        and any(isinstance(base, ast.Name) and hasattr(errors, base.id) for base in node.bases)
        and node.name.endswith("Error")
    ]

    assert elsewhere == []


def test_no_class_of_bulk_stands_on_a_ladder() -> None:
    bases = {
        node.name: [ast.unparse(base).partition("[")[0] for base in node.bases]
        for tree in TREES.values()
        for node in ast.walk(tree)
        if isinstance(node, ast.ClassDef)
    }

    def ancestors(name: str) -> set[str]:
        own = {base for base in bases[name] if base in bases}
        return own.union(*map(ancestors, own))

    of_bulk = {
        node.name
        for path, tree in TREES.items()
        if path.parts[0] == "bulk"
        for node in ast.walk(tree)
        if isinstance(node, ast.ClassDef)
    }

    assert len(of_bulk) > 30
    assert {name: found for name in of_bulk if len(found := ancestors(name)) > 2} == {}
