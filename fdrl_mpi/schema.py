"""What the schema says about a configuration: the keys of each table, what they mean and may hold."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from inspect import cleandoc
from typing import Any

from msgspec import Struct
from msgspec.inspect import (
    BoolType,
    DictType,
    Field,
    FloatType,
    IntType,
    LiteralType,
    Metadata,
    StrType,
    StructType,
    TupleType,
    Type,
    UnionType,
    VarTupleType,
    type_info,
)

from fdrl_mpi.config import Config


@dataclass(frozen=True)
class Key:
    """One leaf of a configuration: its dotted name, its value, and what the schema says about it."""

    name: str
    value: Any
    kind: Type
    description: str
    units: str

    @property
    def accepts(self) -> str:
        """What the key may hold, in words."""
        return f"{expected(self.kind)}, in {self.units}" if self.units else expected(self.kind)


@dataclass(frozen=True)
class Section:
    """The leaves of one table; the name of the outermost table is empty."""

    name: str
    title: str
    keys: list[Key]


def sections(config: Config) -> list[Section]:
    """List the leaves of a configuration, table by table, in the order of declaration."""
    return list(_sections(config, "", type_info(Config)))


def _sections(struct: Struct, name: str, kind: Type) -> Iterator[Section]:
    structs = structures(kind)
    schema = structs[struct.__struct_config__.tag]
    leaves: list[Key] = []
    nested: list[Section] = []
    if schema.tag_field is not None:
        tags = LiteralType(tuple(structs))
        tag_name = dotted_name(name, schema.tag_field)
        leaves.append(Key(tag_name, schema.tag, tags, _chooses(name), ""))
    for entry in schema.fields:
        dotted, value = dotted_name(name, entry.name), getattr(struct, entry.name)
        entry_kind, description, units = described(entry)
        if isinstance(value, Struct):
            nested += _sections(value, dotted, entry_kind)
        else:
            leaves.append(Key(dotted, value, entry_kind, description, units))
    yield Section(name, title(schema.cls), leaves)
    yield from nested


def _chooses(section: str) -> str:
    return "algorithm of every agent" if section == "learner" else "which of these"


def keys(config: Config) -> dict[str, Key]:
    """List the leaves of a configuration by their dotted names."""
    return {key.name: key for section in sections(config) for key in section.keys}


def alternatives() -> list[Section]:
    """List the tables that another choice of their `name` would give, beside those of a default `Config`."""
    found = []
    for name, struct in _tagged(Config(), "", type_info(Config)):
        for kind in struct:
            (section, *_) = _sections(kind.cls(), name, kind)
            found.append(section)
    return found


def _tagged(struct: Struct, path: str, kind: Type) -> Iterator[tuple[str, list[StructType]]]:
    """Walk through all tables; yield the name and the other choices of each that has some."""
    chosen = struct.__struct_config__.tag
    choices = structures(kind)
    if len(choices) > 1:
        yield path, [choice for tag, choice in choices.items() if tag != chosen]
    for entry in choices[chosen].fields:
        value = getattr(struct, entry.name)
        if isinstance(value, Struct):
            yield from _tagged(value, dotted_name(path, entry.name), described(entry)[0])


def every_key() -> dict[str, Key]:
    """List the keys of a default configuration, and those that other choices would bring."""
    others = {key.name: key for section in alternatives() for key in section.keys}
    return others | keys(Config())


def choices_with(dotted: str) -> tuple[str, list[str]]:
    """Find the key whose choice decides whether another key exists, and the choices that bring it.

    Returns
    -------
    str, list of str
        Such as ``"learner.name", ["ppo"]``; empty where no choice brings it or none is needed.
    """
    kind, names = type_info(Config), dotted.split(".")
    for depth, name in enumerate(names):
        structs = structures(kind)
        if len(structs) > 1:
            chooser = dotted_name(".".join(names[:depth]), str(next(iter(structs.values())).tag_field))
            return chooser, [str(tag) for tag, struct in structs.items() if _has(struct, names[depth:])]
        inner = kind.value_type if isinstance(kind, DictType) else _field_kinds(kind).get(name)
        if inner is None:
            break
        kind = inner
    return "", []


def _has(kind: Type, names: Sequence[str]) -> bool:
    inner = _field_kinds(kind).get(names[0])
    return inner is not None and (len(names) == 1 or _has(inner, names[1:]))


def _field_kinds(kind: Type) -> dict[str, Type]:
    entries = [entry for struct in structures(kind).values() for entry in struct.fields]
    return {entry.name: described(entry)[0] for entry in entries}


def title(cls: type) -> str:
    """Return the first line of the docstring of a class."""
    return cleandoc(cls.__doc__ or "").partition("\n")[0]


def structures(kind: Type) -> dict[Any, StructType]:
    """List what a table may be, by the tag that chooses; a lone structure without a tag is under None."""
    kinds = kind.types if isinstance(kind, UnionType) else (kind,)
    return {struct.tag: struct for struct in kinds if isinstance(struct, StructType)}


def expected(kind: Type) -> str:
    """Say in words what a key may hold."""
    match kind:
        case BoolType():
            return "true or false"
        case IntType() | FloatType():
            noun = "a whole number" if isinstance(kind, IntType) else "a number"
            words = {"above": kind.gt, "of at least": kind.ge, "below": kind.lt, "up to": kind.le}
            limits = [f"{word} {limit:g}" for word, limit in words.items() if limit is not None]
            return f"{noun} {', '.join(limits)}".rstrip()
        case StrType():
            return "text that is not empty" if kind.min_length else "text"
        case LiteralType():
            return f"one of {', '.join(map(str, kind.values))}"
        case UnionType():
            return " or ".join(expected(choice) for choice in kind.types)
        case VarTupleType():
            return f"a list, each item {expected(kind.item_type)}"
        case TupleType():
            items = ", ".join(expected(item) for item in kind.item_types)
            return f"a list of {len(kind.item_types)}: {items}"
        case _:
            return "a table"


def described(entry: Field) -> tuple[Type, str, str]:
    """Return the type of a field, its description and its units."""
    if not isinstance(entry.type, Metadata):
        return entry.type, "", ""
    schema, extra = entry.type.extra_json_schema or {}, entry.type.extra or {}
    return entry.type.type, schema.get("description", ""), extra.get("units", "")


def dotted_name(path: str, name: str) -> str:
    """Name a key or table in the table at `path`; that of the outermost table is empty."""
    return f"{path}.{name}" if path else name
