"""Options are the keyword fields of a class or function: checked by name and type before anything is built.

One mechanism serves blocks, models and recipes, so that a misspelt option is refused at the door with the
nearest names, and never travels through ``**kwargs`` to surface elsewhere or not at all.
"""

from __future__ import annotations

import dataclasses
import inspect
import json
import types
import typing
from collections.abc import Callable, Mapping
from typing import Any, Literal, TypeVar, Union, get_args, get_origin

from senet.errors import InputError, did_you_mean

__all__ = ["build", "checked", "fields_of", "flatten", "override", "parse_assignments", "to_plain"]

T = TypeVar("T")


def fields_of(target: Callable[..., Any]) -> dict[str, Any]:
    """The options of a class or function: its keyword fields by name, with their annotations."""
    plain_class = inspect.isclass(target) and not dataclasses.is_dataclass(target)
    hints = typing.get_type_hints(target.__init__ if plain_class else target)
    kinds = (inspect.Parameter.KEYWORD_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    names = [p.name for p in inspect.signature(target).parameters.values() if p.kind in kinds]
    return {name: hints.get(name, Any) for name in names}


def checked(target: Callable[..., Any], given: Mapping[str, Any], *, what: str) -> dict[str, Any]:
    """The given options of ``target``, each known by name and converted to its annotated type.

    Args:
        target: the class or function whose keyword fields are the options.
        given: option names and values.
        what: how an error calls the target, for example ``"block 'se'"``.

    Raises:
        InputError: an unknown name (the nearest known ones are named) or a value of the wrong type.
    """
    known = fields_of(target)
    result = {}
    for name, value in given.items():
        if name not in known:
            raise InputError(f"{what} has no option {name!r}{did_you_mean(name, known)}")
        result[name] = _convert(value, known[name], f"{what}: option {name!r}")
    return result


def build(target: type[T], given: Mapping[str, Any], *, what: str) -> T:
    """A dataclass from the mapping that :func:`to_plain` made of one.

    Raises:
        InputError: it is no mapping, a field is unknown or missing, or a value is of the wrong type.
    """
    if not isinstance(given, Mapping):
        raise InputError(f"{what} is {given!r}; accepted: names and values")
    fields = checked(target, given, what=what)
    if missing := [repr(name) for name in _required(target) if name not in fields]:
        raise InputError(f"{what} lacks {', '.join(missing)}")
    return target(**fields)


def override(value: T, changes: Mapping[str, Any], *, what: str) -> T:
    """A copy of a frozen dataclass with some fields changed; ``"optim.lr"`` reaches into a nested field.

    A dotted name also reaches into a mapping and the mappings in it, where any key is allowed: the mapping's owner
    checks it.

    Raises:
        InputError: an unknown field (the nearest known ones are named) or a value of the wrong type.
    """
    nested: dict[str, Any] = {}
    for name, new in changes.items():
        head, _, rest = name.partition(".")
        inner = nested.get(head, getattr(value, head, None))
        if not rest:
            whole = dataclasses.is_dataclass(inner) and isinstance(new, Mapping)  # changes those fields, keeps the rest
            nested[head] = override(inner, new, what=f"{what} {head}") if whole else new
            continue
        if isinstance(inner, Mapping):
            nested[head] = _put(inner, rest, new, f"{what}: cannot set {name!r}")
        elif dataclasses.is_dataclass(inner):
            nested[head] = override(inner, {rest: new}, what=f"{what} {head}")
        else:
            known = [f.name for f in dataclasses.fields(value) if _is_nested(getattr(value, f.name))]  # type: ignore[arg-type]
            raise InputError(f"{what} has no group {head!r} (in {name!r}){did_you_mean(head, known)}")
    return dataclasses.replace(value, **checked(type(value), nested, what=what))  # type: ignore[type-var]


def parse_assignments(assignments: list[str]) -> dict[str, Any]:
    """``["optim.lr=0.1", "model.name=resnet50"]`` as names and values; a value is JSON, or else text.

    Raises:
        InputError: an assignment without ``=`` or without a name.
    """
    result = {}
    for assignment in assignments:
        name, equals, text = assignment.partition("=")
        if not equals or not name.strip():
            raise InputError(f"cannot read {assignment!r}: an override is NAME=VALUE, for example optim.lr=0.1")
        try:
            result[name.strip()] = json.loads(text)
        except json.JSONDecodeError:
            # Python's spelling of the three constants is as welcome as JSON's.
            result[name.strip()] = {"True": True, "False": False, "None": None}.get(text, text)
    return result


def flatten(plain: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested mappings as one, with dotted names: ``{"optim": {"lr": 0.1}}`` becomes ``{"optim.lr": 0.1}``."""
    result: dict[str, Any] = {}
    for key, value in plain.items():
        name = prefix + key
        result.update(flatten(value, f"{name}.") if isinstance(value, Mapping) else {name: value})
    return result


def to_plain(value: Any) -> Any:
    """A dataclass, with all it holds, as what JSON can write."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: to_plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {key: to_plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [to_plain(item) for item in value]
    return value


def _put(mapping: Mapping[str, Any], name: str, new: Any, where: str) -> dict[str, Any]:
    """A copy of the mapping with one value set, at a dotted name."""
    head, _, rest = name.partition(".")
    if rest:
        inner = mapping.get(head, {})
        if not isinstance(inner, Mapping):
            raise InputError(f"{where}: {head!r} is {inner!r}, not names and values")
        new = _put(inner, rest, new, where)
    return {**mapping, head: new}


def _required(dataclass: Any) -> list[str]:
    """The fields without a default."""
    parameters = inspect.signature(dataclass).parameters.values()
    return [p.name for p in parameters if p.default is inspect.Parameter.empty]


def _is_nested(value: Any) -> bool:
    return isinstance(value, Mapping) or dataclasses.is_dataclass(value)


def _convert(value: Any, annotation: Any, where: str) -> Any:
    """The value as its annotation wants it: an int where a float is wanted, a list where a tuple is."""
    origin, args = get_origin(annotation), get_args(annotation)
    if annotation is Any:
        return value
    if origin in (Union, types.UnionType):
        return _convert_union(value, args, where, annotation)
    if origin is Literal:
        if not any(value == arg and type(value) is type(arg) for arg in args):  # 1 == True, yet neither is the other
            raise InputError(f"{where} is {value!r}; accepted: {', '.join(map(repr, args))}")
        return value
    if dataclasses.is_dataclass(annotation) and isinstance(value, Mapping):
        return build(annotation, value, what=where)  # type: ignore[arg-type]
    if origin is tuple and isinstance(value, (list, tuple)):
        if len(args) == 2 and args[1] is Ellipsis:
            return tuple(_convert(item, args[0], where) for item in value)
        if len(args) == len(value):
            return tuple(_convert(item, arg, where) for item, arg in zip(value, args, strict=True))
    if annotation is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if annotation is int and isinstance(value, bool):
        raise InputError(f"{where} is {value!r}; accepted: {_spell(annotation)}")
    wanted = origin or annotation
    if isinstance(wanted, type) and isinstance(value, wanted) and origin is not tuple:
        return value
    raise InputError(f"{where} is {value!r}; accepted: {_spell(annotation)}")


def _convert_union(value: Any, choices: tuple[Any, ...], where: str, annotation: Any) -> Any:
    if value is None and types.NoneType in choices:
        return None
    for choice in choices:
        if choice is types.NoneType:
            continue
        try:
            return _convert(value, choice, where)
        except InputError:
            continue
    raise InputError(f"{where} is {value!r}; accepted: {_spell(annotation)}")


def _spell(annotation: Any) -> str:
    """An annotation in words."""
    if annotation is types.NoneType:
        return "none"
    origin, args = get_origin(annotation), get_args(annotation)
    if origin in (Union, types.UnionType):
        return " or ".join(_spell(arg) for arg in args)
    if origin is Literal:
        return " or ".join(map(repr, args))
    if origin is tuple:
        kinds = list(dict.fromkeys(_spell(arg) for arg in args if arg is not Ellipsis))
        if len(kinds) == 1 and args[-1] is not Ellipsis:
            return f"a list of {len(args)} {kinds[0].removeprefix('a ')}s"
        return f"a list of {' and '.join(kinds)}"
    if origin is not None:
        return "names and values" if issubclass(origin, Mapping) else origin.__name__
    words = {int: "a whole number", float: "a number", bool: "true or false", str: "text"}
    return words.get(annotation, getattr(annotation, "__name__", str(annotation)))
