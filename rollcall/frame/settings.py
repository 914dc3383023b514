"""Read one TOML file and `--set a.b=value` into one frozen pydantic model; write it back as TOML.

Owns no setting of its own. An unknown key is refused with the nearest known one, because a
misspelt setting that is ignored is found weeks later.
"""

import difflib
import json
import tomllib
from collections.abc import Iterator, Sequence
from decimal import Decimal
from itertools import takewhile
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from protocol.user_error import UserError

Config = TypeVar("Config", bound=BaseModel)


def load(model: type[Config], path: Path | None, assignments: Sequence[str] = ()) -> Config:
    """Read a config; raise `UserError` naming file, key and remedy if it is not one."""
    values = _read(path) if path is not None else {}
    for assignment in assignments:
        _assign(values, assignment)
    try:
        return model.model_validate(values)
    except ValidationError as error:
        where = str(path) if path is not None else "the settings"
        raise UserError(f"{where}: " + "; ".join(_explain(model, error))) from error


def to_toml(config: BaseModel) -> str:
    """Return the config as TOML, each key under its description."""
    return "\n".join(_lines(type(config), config)) + "\n"


def _read(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text())
    except FileNotFoundError as error:
        raise UserError(
            f"no config at {path}: write one with --print-config > {path.name}"
        ) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{path} is not TOML: {error}") from error
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from error


def _assign(values: dict[str, Any], assignment: str) -> None:
    key, separator, text = assignment.partition("=")
    if any("\ud800" <= letter <= "\udfff" for letter in assignment):
        raise UserError(f"--set {assignment!a} is not UTF-8: write it so")
    if not separator or not key.strip():
        raise UserError(f"--set {assignment!r} is not of the form a.b=value")
    *tables, leaf = key.strip().split(".")
    for table in tables:
        values = values.setdefault(table, {})
        if not isinstance(values, dict):
            raise UserError(f"--set {key.strip()}: {table} is a value already, and no table")
    values[leaf] = _value(text.strip())


def _value(text: str) -> Any:
    if text.startswith("0x"):
        return text  # an address or a digest; TOML would read a number
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text  # a bare word is a string, so that a shell needs no second quotes


def _explain(model: type[BaseModel], error: ValidationError) -> Iterator[str]:
    found = error.errors(include_url=False, include_input=False)
    missing = [key for item in found if item["type"] == "missing" for key in _needed(model, item)]
    if missing:
        yield (
            f"{', '.join(missing)} {'is' if len(missing) == 1 else 'are'} missing: set each in the file "
            "or with --set KEY=VALUE "
            "(--print-config writes a file to fill in)"
        )
    told = set()
    for item in found:
        # Where several kinds of value may stand, pydantic names each behind the key: the first says enough.
        named = takewhile(lambda part: str(part).isalnum() or str(part).isidentifier(), item["loc"])
        key = ".".join(map(str, named))
        if key in told:
            continue
        told.add(key)
        if item["type"] == "extra_forbidden":
            known = _known_keys(model)
            near = difflib.get_close_matches(key, known, n=1)
            hint = f"did you mean {near[0]}?" if near else f"known keys: {', '.join(known)}"
            yield f"unknown key {key!r}; {hint}"
        elif item["type"] == "model_type":
            names = ", ".join(name for name in _known_keys(model) if name.startswith(f"{key}."))
            yield f"{key} is a section: set its keys, {names}"
        elif item["type"] != "missing":
            yield f"{key}: {item['msg'].removeprefix('Value error, ')}"


def _needed(model: type[BaseModel], item: ErrorDetails) -> list[str]:
    """Return the missing key, or if a whole table is missing, what must be in it."""
    kind: Any = model
    for part in item["loc"]:
        fields = kind.model_fields if _is_model(kind) else {}
        kind = fields[part].annotation if part in fields else None
    key = ".".join(str(part) for part in item["loc"])
    if not _is_model(kind):
        return [key]
    return [f"{key}.{name}" for name, field in kind.model_fields.items() if field.is_required()]


def _is_model(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, BaseModel)


def _known_keys(model: type[BaseModel], prefix: str = "") -> list[str]:
    keys = []
    for name, field in model.model_fields.items():
        nested: Any = field.annotation
        if _is_model(nested):
            keys += _known_keys(nested, f"{prefix}{name}.")
        else:
            keys.append(prefix + name)
    return keys


def _lines(model: type[BaseModel], config: BaseModel | None, prefix: str = "") -> Iterator[str]:
    """Yield a config as TOML, or without one its defaults; what must be set is commented out and says so."""
    tables: list[tuple[str, type[BaseModel]]] = []
    for name, field in model.model_fields.items():
        kind: Any = field.annotation
        if _is_model(kind):
            tables.append((name, kind))
            continue
        yield from (f"# {line}".rstrip() for line in (field.description or "").splitlines())
        default = None if field.is_required() else field.get_default(call_default_factory=True)
        value = default if config is None else getattr(config, name)
        if value is not None:
            yield f"{name} = {_literal(value)}"
        else:
            yield f"# {name} = …  (must be set)" if field.is_required() else f"# {name} ="
    for name, table in tables:
        yield f"\n[{prefix}{name}]"
        nested = None if config is None else getattr(config, name)
        yield from _lines(table, nested, f"{prefix}{name}.")


def _literal(value: Any) -> str:
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(_literal(item) for item in value) + "]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key} = {_literal(item)}" for key, item in value.items()) + "}"
    if isinstance(value, Decimal) and Decimal(repr(float(value))) == value:
        return f"{value:f}"
    if isinstance(value, (bool, int, float, str)):
        return json.dumps(value, ensure_ascii=False)
    return json.dumps(str(value))


def template(model: type[BaseModel]) -> str:
    """Return a config to fill in: every key under its description, with its default if it has one."""
    return "\n".join(_lines(model, None)) + "\n"
