"""A configuration in TOML: read from files and single overrides with every mistake named, and written."""

import json
import math
import re
import tomllib
from collections.abc import Callable, Collection, Iterable, Sequence
from difflib import get_close_matches
from functools import partial
from pathlib import Path
from textwrap import wrap
from typing import Any, TypeAlias, get_type_hints

from msgspec import NODEFAULT, Struct, ValidationError, convert, to_builtins
from msgspec.inspect import DictType, Field, LiteralType, StrType, StructType, Type, type_info

from fdrl_mpi.config import Config, EnvironmentConfig
from fdrl_mpi.problem import Problem, did_you_mean
from fdrl_mpi.schema import (
    Key,
    choices_with,
    described,
    dotted_name,
    every_key,
    expected,
    keys,
    sections,
    structures,
)

Table: TypeAlias = dict[str, Any]


class ConfigError(Exception):
    """A configuration that cannot be used, with everything that is wrong with it."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        super().__init__("\n".join(map(str, problems)))
        self.problems = list(problems)


def read(files: Sequence[Path], overrides: Sequence[tuple[str, str]]) -> Config:
    """Read a configuration from TOML files and overrides of single keys.

    Later files win over earlier ones, overrides win over files, what nobody sets has its default. Sections
    are merged key by key. The tables whose keys are free (`environment.heterogeneity` and all ``kwargs``) are
    replaced as a whole by whoever names them; an override of one entry, such as
    ``environment.heterogeneity.gravity``, leaves the other entries.

    Where a source chooses another kind of a table (`learner.name`, `aggregation.server.name`), what earlier
    sources set for the kind before it is left out if the new kind lacks the key or counts it in another
    unit. All overrides together are one source, the last.

    Parameters
    ----------
    files : paths of TOML files
    overrides : pairs (dotted key, value)
        A value is read as TOML, or as text where it is not TOML. A key that holds text takes it as it
        stands, with or without quotes.

    Raises
    ------
    ConfigError
        With every problem, not only the first.
    """
    problems = [
        Problem(f"--{key}", "its value holds bytes that are not UTF-8", "write it in UTF-8")
        for key, text in overrides
        if not _is_unicode(key + text)
    ]
    if problems:
        raise ConfigError(problems)
    tables = [_load(file, problems) for file in files]
    worlds = to_builtins(EnvironmentConfig().heterogeneity) if _keeps_default_id(tables, overrides) else {}
    merged = _combine({"environment": {"heterogeneity": worlds}}, tables, overrides)
    config = _read_table(merged, "", type_info(Config), None, problems)
    if problems:
        raise ConfigError(problems)
    assert isinstance(config, Config)
    return config


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _load(file: Path, problems: list[Problem]) -> Table:
    try:
        return tomllib.loads(file.read_text(encoding="utf-8-sig"))
    except OSError as error:
        reason, remedy = error.strerror or str(error), "name a file that can be read"
    except ValueError as error:
        reason, remedy = f"not TOML: {error}", "mend that line; texts need quotes, tables need [brackets]"
    problems.append(Problem(f"--config {file}", reason, remedy))
    return {}


def _keeps_default_id(tables: Sequence[Table], overrides: Sequence[tuple[str, str]]) -> bool:
    environment, default = _combine({}, tables, overrides).get("environment"), EnvironmentConfig().id
    return not isinstance(environment, dict) or environment.get("id", default) == default


def _combine(base: Table, tables: Sequence[Table], overrides: Sequence[tuple[str, str]]) -> Table:
    for table in tables:
        base = _lay_over(base, partial(_merge, new=table, path=""))
    return _lay_over(base, partial(_override, overrides=overrides))


def _lay_over(base: Table, change: Callable[[Table], Table]) -> Table:
    """Change what earlier sources have set, without what belongs to kinds that the change replaces."""
    kind = type_info(Config)
    kept: Table = _still_meant(base, change(base), (kind, kind), (None, None))
    return change(kept)


def _still_meant(
    old: Any, new: Any, kinds: tuple[Type, Type], defaults: tuple[Struct | None, Struct | None]
) -> Any:
    """Leave out of a table what its kind had and its kind in the new table has not.

    Parameters
    ----------
    old, new : values of the same key, before and after a change
    kinds, defaults : what the schema says of that key, before and after
    """
    if not (isinstance(old, dict) and isinstance(new, dict)):
        return old
    if isinstance(kinds[0], DictType) and isinstance(kinds[1], DictType):
        inner = kinds[0].value_type, kinds[1].value_type
        return {name: _still_meant(value, new.get(name), inner, (None, None)) for name, value in old.items()}
    before, after = _structure(old, kinds[0], defaults[0]), _structure(new, kinds[1], defaults[1])
    if before is None or after is None:
        return old
    had, has = ({entry.name: entry for entry in struct.fields} for struct in (before, after))
    kept = {}
    for name, value in old.items():
        if name not in had:
            kept[name] = value
        elif name in has and _comparable(had[name], has[name]):
            inner = described(had[name])[0], described(has[name])[0]
            kept[name] = _still_meant(value, new.get(name), inner, (had[name].default, has[name].default))
    return kept


def _structure(table: Any, kind: Type, default: Struct | None) -> StructType | None:
    """Look up which of the structures that a table may be it is; None where its tag is wrong or missing."""
    for tag, struct in structures(kind).items():
        if tag == table.get(struct.tag_field, default and default.__struct_config__.tag):
            return struct
    return None


def _comparable(a: Field, b: Field) -> bool:
    """Tell whether a value of one key means as much for the other: budgets in steps are none in episodes."""
    units = {described(entry)[2] for entry in (a, b)} - {""}
    return len(units) < 2


def _override(base: Table, overrides: Sequence[tuple[str, str]]) -> Table:
    for key, text in overrides:
        base = _put(base, key.split("."), _parse(key, text), "")
    return base


def _merge(base: Table, new: Table, path: str) -> Table:
    merged = dict(base)
    for name, value in new.items():
        dotted, old = dotted_name(path, name), base.get(name)
        if isinstance(old, dict) and isinstance(value, dict) and not _inside(dotted, _FREE_TABLES):
            merged[name] = _merge(old, value, dotted)
        else:
            merged[name] = value
    return merged


def _put(base: Table, names: Sequence[str], value: Any, path: str) -> Table:
    head, *rest = names
    if not rest:
        return _merge(base, {head: value}, path)
    inner = base.get(head)
    return {
        **base,
        head: _put(inner if isinstance(inner, dict) else {}, rest, value, dotted_name(path, head)),
    }


def _parse(key: str, text: str) -> Any:
    try:
        table = tomllib.loads(f"value = {text}")
    except ValueError:
        return text
    value = table["value"]
    as_it_stands = len(table) > 1 or (key in _TEXT_KEYS and not isinstance(value, str))
    return text if as_it_stands else value


def _read_table(table: Any, path: str, kind: Type, default: Struct | None, problems: list[Problem]) -> Any:
    """Build the structure a table describes; None after a problem."""
    if not isinstance(table, dict):
        problems.append(Problem(_shown(path, table), "expected a table", f"set the keys in it: {path}.KEY"))
        return None
    struct = _structure(table, kind, default)
    if struct is None:
        structs = structures(kind)
        tag_field = str(next(iter(structs.values())).tag_field)
        problems.append(_wrong_tag(table, path, tag_field, [str(known) for known in structs]))
        return None
    num_problems = len(problems)
    values = _read_fields(table, path, struct, problems)
    if len(problems) > num_problems:
        return None
    try:
        return struct.cls(**values)
    except ValueError as error:
        problems.append(Problem(_shown(path, table), str(error), _form(struct)))
        return None


def _read_fields(table: Table, path: str, struct: StructType, problems: list[Problem]) -> Table:
    fields = {entry.name: entry for entry in struct.fields}
    hints = get_type_hints(struct.cls, include_extras=True)
    siblings = [dotted_name(path, name) for name in fields]
    values = {}
    for name, value in table.items():
        if name in fields:
            values[name] = _read_value(value, dotted_name(path, name), fields[name], hints[name], problems)
        elif name != struct.tag_field:
            problems += _unknown_keys(value, dotted_name(path, name), siblings)
    for name, entry in fields.items():
        if entry.required and name not in table:
            problems.append(
                Problem(f"{dotted_name(path, name)} is missing", "it has no default", _form(struct))
            )
    return values


def _read_value(value: Any, path: str, entry: Field, hint: Any, problems: list[Problem]) -> Any:
    kind, description, _ = described(entry)
    if structures(kind):
        return _read_table(value, path, kind, entry.default, problems)
    if isinstance(kind, DictType) and structures(kind.value_type) and isinstance(value, dict):
        item_kind = kind.value_type
        return {n: _read_table(v, dotted_name(path, n), item_kind, None, problems) for n, v in value.items()}
    reason = f"expected {expected(kind)}"
    try:
        converted = convert(value, hint)
    except ValidationError:
        pass
    else:
        if converted == entry.default or _can_be_kept(converted):
            return converted
        reason = f"{reason}; nan, inf and dates are refused"
    remedy = description if entry.default is NODEFAULT else f"{description} (default {toml(entry.default)})"
    if isinstance(kind, LiteralType):
        remedy = did_you_mean(str(value), map(str, kind.values), remedy)
    problems.append(Problem(_shown(path, value), reason, remedy or f"give {expected(kind)}"))
    return None


def _can_be_kept(value: Any) -> bool:
    match value:
        case bool() | int() | str():
            return True
        case float():
            return math.isfinite(value)
        case dict():
            return all(map(_can_be_kept, value.values()))
        case list() | tuple():
            return all(map(_can_be_kept, value))
        case _:
            return False


def _wrong_tag(table: Table, path: str, tag_field: str, known: Sequence[str]) -> Problem:
    choices = f"one of {', '.join(known)}"
    if tag_field not in table:
        return Problem(_shown(path, table), f"`{tag_field}` is missing", f"set it to {choices}")
    remedy = did_you_mean(str(table[tag_field]), known, "--help says what each of them is")
    return Problem(_shown(dotted_name(path, tag_field), table[tag_field]), f"expected {choices}", remedy)


def _unknown_keys(value: Any, path: str, siblings: Sequence[str]) -> list[Problem]:
    """Report an unknown key; of a table that resembles nothing, report the keys inside."""
    chooser, choices = choices_with(path)
    if choices:
        return [_of_another_kind(path, f"{chooser} = {' or '.join(choices)}", siblings)]
    near = _nearest_keys(path, siblings)
    if not near and isinstance(value, dict) and value:
        inner = [_unknown_keys(item, dotted_name(path, name), []) for name, item in value.items()]
        return [problem for problems in inner for problem in problems]
    names = " or ".join(f"`{name}`" for name in near)
    remedy = f"did you mean {names}?" if near else "--help lists every key"
    return [Problem(f"unknown key `{path}`", "nothing reads it", remedy)]


def _of_another_kind(path: str, owner: str, siblings: Sequence[str]) -> Problem:
    similar = get_close_matches(_last(path), map(_last, siblings), cutoff=0.75)
    near = " or ".join(f"`{name}`" for name in siblings if _last(name) in similar)
    instead = f"or did you mean {near}?" if near else f"or choose {owner}"
    return Problem(f"unknown key `{path}`", f"it belongs to {owner}", f"leave it out, {instead}")


def _nearest_keys(path: str, siblings: Sequence[str]) -> list[str]:
    """Name the keys that may be meant: of the same name elsewhere, else of a similar name."""
    word = _last(path)
    everywhere = dict.fromkeys([*siblings, *_KEYS, *_SECTIONS])
    same = [name for name in everywhere if _last(name) == word]
    if same:
        return same
    for names in (siblings, list(everywhere)):
        similar = get_close_matches(word, [_last(name) for name in names], n=1)
        if similar:
            return [name for name in names if _last(name) == similar[0]]
    return []


def to_toml(config: Config, comments: bool = False) -> str:
    """Write a complete configuration as TOML; `read` makes an equal configuration of it.

    With `comments`, what each key means and may hold stands above it.
    """
    blocks = []
    for section in sections(config):
        block = [f"[{section.name}]"] if section.name else []
        # Tables last: what follows a table header belongs to that table.
        for key in sorted(section.keys, key=_has_entries):
            remark = [f"# {line}" for line in wrap(f"{key.description} [{key.accepts}]", 98) if comments]
            if _has_entries(key):
                entries = [f"{_bare_or_quoted(name)} = {toml(value)}" for name, value in key.value.items()]
                block += ["", *remark, f"[{key.name}]", *entries]
            else:
                block += [*remark, f"{_last(key.name)} = {toml(key.value)}"]
        blocks.append("\n".join(block))
    return "\n\n".join(blocks) + "\n"


def toml(value: Any) -> str:
    """Write one value as TOML on one line."""
    match value:
        case bool():
            return "true" if value else "false"
        case str():
            return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
        case list() | tuple():
            return f"[{', '.join(map(toml, value))}]"
        case dict():
            entries = [f"{_bare_or_quoted(name)} = {toml(item)}" for name, item in value.items()]
            return f"{{{', '.join(entries)}}}"
        case Struct():
            return toml(to_builtins(value))
        case _:
            return str(value)


def differing_keys(a: Config, b: Config, ignoring: Collection[str] = ()) -> list[str]:
    """List the dotted keys in which two configurations differ, but for ignored keys and sections."""
    ours, theirs = keys(a), keys(b)
    names = [name for name in ours | theirs if not _inside(name, ignoring)]
    return [name for name in names if ours.get(name) != theirs.get(name)]


def _form(struct: StructType) -> str:
    return f"{struct.tag} takes {', '.join(entry.name for entry in struct.fields)}"


def _shown(path: str, value: Any) -> str:
    return f"{path} = {toml(value)}"


def _last(path: str) -> str:
    return path.rpartition(".")[2]


def _inside(path: str, tables: Iterable[str]) -> bool:
    return any(f"{path}.".startswith(f"{table}.") for table in tables)


def _has_entries(key: Key) -> bool:
    return isinstance(key.value, dict) and bool(key.value)


def _bare_or_quoted(name: str) -> str:
    return name if re.fullmatch(r"[A-Za-z0-9_-]+", name) else toml(name)


_KEYS = every_key()
_SECTIONS = [section.name for section in sections(Config()) if section.name]
_TEXT_KEYS = {name for name, key in _KEYS.items() if isinstance(key.kind, StrType)}
_FREE_TABLES = {name for name, key in _KEYS.items() if isinstance(key.kind, DictType)}
