"""How the converter makes a model of a JSON object: with a function that is generated for each model.

Unknown keys are kept in `extra`, and so is a field of an assumed form [A] that has another one: it must not
make a whole page unreadable. No error carries a value, only the path of the field.

The function goes through the fields once. That of an `Attachment` begins so:

    def structure(value, _):
        if type(value) is not dict:
            raise MismatchError
        self, known, misfits = draft(), 4, ()
        found = self.id = value.get('id')
        if type(found) is not str:
            raise MismatchError('.id')
        found = value.get('name')
        if type(found) is not str:
            if 'name' not in value:
                known -= 1
            elif found is not None:
                raise MismatchError('.name')
            found = None
        self.name = found
        …
"""

import linecache
from collections.abc import Callable, Mapping
from types import NoneType
from typing import TYPE_CHECKING, Any, Final, get_args, get_origin

from attrs import NOTHING, Attribute, AttrsInstance, Factory, fields, resolve_types, validate

if TYPE_CHECKING:
    from cattrs import Converter

Hook = Callable[[Any, Any], Any]
"""Makes something of a value from JSON; its second parameter, the type, is cattrs's."""

ASSUMED: Final = {"assumed": True}
"""Metadata of a field whose form is assumed [A]: what has another one goes to `extra`, the rest is read."""
ID_ALONE: Final = "the service may give the id alone"
"""Annotates a model in whose place there may be its id."""
_READ_AS: Final = "read as"
WRITE: Final = "write"
"""Key of the metadata that `in_json` returns: what writes the field."""

_PRIMITIVES: Final = {str: "str", int: "int", bool: "bool"}
_REQUIRED: Final = """\
    found = self.{name} = value.get({name!r})
    if type(found) is not {kind}:
        raise MismatchError('.{name}')
"""
_PRIMITIVE: Final = """\
    found = value.get({name!r})
    if type(found) is not {kind}:
        if {name!r} not in value:
            known -= 1
        elif found is not None:
            {on_misfit}
        found = {default}
    self.{name} = found
"""
_OTHER: Final = """\
    found = value.get({name!r})
    if found is None:
        if {name!r} not in value:
            known -= 1
        found = {default}
    elif {is_empty}:
        found = ()
    else:
        try:
            found = structure_{name}(found, type_{name})
        except MismatchError as error:
            {on_misfit}
            found = {default}
    self.{name} = found
"""
_AROUND: Final = """\
def structure(value, _):
    if type(value) is not dict:
        raise MismatchError
    self, known, misfits = draft(), {count}, ()
{fields}\
    if len(value) == known:
        self.extra = {{}}
    else:
        self.extra = {{key: kept for key, kept in value.items() if key not in names or key in misfits}}
    self.__class__ = model
    {validate}return self
"""
_WRITTEN: Final = """\
    found = {value}
    if found is not None:
        document[{name!r}] = found
"""
_WRITER: Final = """\
def write(self):
    document = {{}}
{fields}\
    return document
"""
_kinds: Final[dict[type, dict[str, type]]] = {}


class MismatchError(TypeError):
    """A value is not of the type that was expected. `path` names the field, as in `.members[0].owner`."""

    def __init__(self, path: str = "") -> None:
        self.path: str = path
        super().__init__()

    def below(self, step: str) -> "MismatchError":
        """Return this error as that of what holds the value, in the place *step*."""
        self.path = f"{step}{self.path}"
        return self


def by_type(model: type, **kinds: type) -> None:
    """Make, of a JSON object that stands for a *model*, the class among *kinds* that its `type` names."""
    _kinds[model] = kinds


def in_json(kind: object, write: Callable[[Any], object]) -> dict[str, object]:
    """Return metadata of a field that is something else in JSON: what *write* returns, read as *kind*."""
    return {_READ_AS: kind, WRITE: write}


def items_hook(shape: Any, converter: "Converter") -> Hook:
    """Return what makes a tuple of a list."""
    kind = get_args(shape)[0]
    structure_item = converter.get_structure_hook(kind)

    def structure(value: Any, _: Any) -> tuple[object, ...]:
        if value is None:
            return ()
        if type(value) is not list:
            raise MismatchError
        items: list[object] = []
        try:
            for item in value:
                items.append(structure_item(item, kind))  # noqa: PERF401 - its length is the index that failed
        except MismatchError as error:
            raise error.below(f"[{len(items)}]")  # noqa: B904 - it is the same error
        return tuple(items)

    return structure


def id_alone_hook(shape: Any, converter: "Converter") -> Hook:
    """Return what makes a model of an object, or of its id alone."""
    model = get_args(shape)[0]
    structure_object = converter.get_structure_hook(model)

    def structure(value: Any, _: Any) -> object:
        return structure_object({"id": value} if type(value) is str else value, model)

    return structure


def model_hook(model: type[AttrsInstance], converter: "Converter") -> Hook:
    """Return what makes a model of an object."""
    resolve_types(model)
    if not any(attribute.name == "extra" for attribute in fields(model)) or _makes_more_of_it(model):
        return _checking_hook(model, converter)
    return _hook_by_type(model, converter) if model in _kinds else _generated_hook(model, converter)


def _makes_more_of_it(model: type[AttrsInstance]) -> bool:
    """Return whether more is to be done than to set and validate fields of which an id alone is required."""
    return hasattr(model, "__attrs_post_init__") or any(
        field.converter or (field.default is NOTHING and field.type not in _PRIMITIVES)
        for field in fields(model)
    )


def _hook_by_type(model: type[AttrsInstance], converter: "Converter") -> Hook:
    of_another_kind = _generated_hook(model, converter)
    by_kind = {name: converter.get_structure_hook(kind) for name, kind in _kinds[model].items()}

    def structure(value: Any, shape: Any) -> object:
        kind = value.get("type") if type(value) is dict else None
        return (by_kind.get(kind, of_another_kind) if type(kind) is str else of_another_kind)(value, shape)

    return structure


def _checking_hook(model: type[AttrsInstance], converter: "Converter") -> Hook:
    """Call the class itself, which may check what it is given; unknown keys are left out."""
    kinds = {field.name: field.metadata.get(_READ_AS, field.type) for field in fields(model) if field.init}
    hooks = {name: converter.get_structure_hook(kind) for name, kind in kinds.items()}
    required = {field.name for field in fields(model) if field.default is NOTHING}

    def structure(value: Any, _: Any) -> object:
        if type(value) is not dict:
            raise MismatchError
        given = dict[str, object]()
        for name, hook in hooks.items():
            if name in value or name in required:
                try:
                    given[name] = hook(value.get(name), kinds[name])
                except MismatchError as error:
                    raise error.below(f".{name}")  # noqa: B904 - it is the same error
        return model(**given)

    return structure


def _generated_hook(model: type[AttrsInstance], converter: "Converter") -> Hook:
    known = [attribute for attribute in fields(model) if attribute.name != "extra"]
    names: dict[str, Any] = {
        "MismatchError": MismatchError,
        "validate": validate,
        "model": model,
        "draft": draft_of(model),
        "names": frozenset(attribute.name for attribute in known),
    }
    has_validator = any(attribute.validator for attribute in known)
    source = _AROUND.format(
        count=len(known),
        fields="".join(map(_source_of_field, known)),
        validate="validate(self)\n    " if has_validator else "",
    )
    for attribute in known:
        names[f"type_{attribute.name}"] = kind = _without_none(attribute.type)
        names[f"structure_{attribute.name}"] = converter.get_structure_hook(kind)
        if isinstance(attribute.default, Factory):  # type: ignore[arg-type] # attrs has it as a function there
            names[f"default_{attribute.name}"] = attribute.default.factory
    hook: Hook = _generated("structure", source, names, model)
    return hook


def writer_of(model: type[AttrsInstance]) -> Callable[[Any], dict[str, object]]:
    """Return what makes a dict of a model's fields, as JSON has them; without `extra` and what is `None`."""
    names: dict[str, Any] = {}
    source = ""
    for attribute in fields(model):
        value = f"self.{attribute.name}"
        if (write := attribute.metadata.get(WRITE)) is not None:
            names[f"write_{attribute.name}"] = write
            value = f"write_{attribute.name}({value})"
        if attribute.name != "extra":
            source += _WRITTEN.format(name=attribute.name, value=value)
    writer: Callable[[Any], dict[str, object]]
    writer = _generated("write", _WRITER.format(fields=source), names, model)
    return writer


def _generated(what: str, source: str, names: dict[str, Any], model: type) -> Any:
    # Where debuggers and tracebacks look for it.
    file = f"<generated for {model.__module__}.{model.__qualname__}: {what}>"
    linecache.cache[file] = len(source), None, source.splitlines(keepends=True), file
    exec(compile(source, file, "exec"), names)  # noqa: S102 - of our own words and the names of our fields
    return names[what]


def _source_of_field(attribute: "Attribute[Any]") -> str:
    name, kind, default = attribute.name, _without_none(attribute.type), attribute.default
    if default is NOTHING:
        # All that is required is an id.
        return _REQUIRED.format(name=name, kind=_PRIMITIVES[kind])
    if attribute.metadata.get("assumed"):
        on_misfit = f"known, misfits = known - 1, (*misfits, {name!r})"
    elif kind in _PRIMITIVES:
        on_misfit = f"raise MismatchError('.{name}')"
    else:
        on_misfit = f"raise error.below('.{name}')"
    return (_PRIMITIVE if kind in _PRIMITIVES else _OTHER).format(
        name=name,
        kind=_PRIMITIVES.get(kind),
        default=f"default_{name}()" if isinstance(default, Factory) else repr(default),  # type: ignore[arg-type] # as above
        is_empty="found == []" if get_origin(kind) is tuple else "False",
        on_misfit=on_misfit,
    )


def _without_none(kind: Any) -> Any:
    """Return `str` for `str | None`."""
    others = [other for other in get_args(kind) if other is not NoneType]
    return others[0] if NoneType in get_args(kind) and len(others) == 1 else kind


def draft_of(model: type[AttrsInstance]) -> type[Any]:
    """Return a model's class while it is being filled: it can be changed, and needs nothing to be made.

    Its slots are the model's, so that it becomes one by a change of its class. To go through the `__init__`
    of a frozen class would take four times as long.
    """
    thawed: Mapping[str, object] = {
        name: getattr(object, name) for name in ("__init__", "__setattr__", "__delattr__")
    }
    return type(model.__name__, (model,), {"__slots__": (), **thawed})
