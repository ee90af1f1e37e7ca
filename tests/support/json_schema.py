"""As much of JSON Schema 2020-12 as our own schemas use: whether a document fits, and where it does not."""

import re
from collections.abc import Iterator
from typing import Any

KNOWN = {
    "$schema", "$id", "$ref", "$defs", "title", "description", "default", "type", "properties", "required",
    "additionalProperties", "items", "prefixItems", "minItems", "maxItems", "anyOf", "enum", "minimum",
    "maximum", "minLength", "pattern",
}  # fmt: skip
TYPES: dict[str, type | tuple[type, ...]] = {
    "object": dict, "array": list, "string": str, "boolean": bool, "null": type(None), "integer": int,
    "number": (int, float),
}  # fmt: skip


def faults(value: Any, schema: Any, root: dict[str, Any] | None = None, where: str = "$") -> list[str]:
    """Every place where a document does not fit."""
    return list(_faults(value, schema, schema if root is None else root, where))


def _faults(value: Any, schema: Any, root: dict[str, Any], where: str) -> Iterator[str]:
    if isinstance(schema, bool):
        if not schema:
            yield f"{where}: nothing may be here"
        return
    unknown = set(schema) - KNOWN
    if unknown:
        raise ValueError(f"this validator does not know {sorted(unknown)}")
    if "$ref" in schema:
        yield from _faults(value, root["$defs"][schema["$ref"].rpartition("/")[2]], root, where)
    if "anyOf" in schema and all(faults(value, one, root, where) for one in schema["anyOf"]):
        yield f"{where}: fits none"
    if "enum" in schema and value not in schema["enum"]:
        yield f"{where}: {value!r} is none of {schema['enum']}"
    if "type" in schema and not _is(value, schema["type"]):
        yield f"{where}: is no {schema['type']}"
    elif isinstance(value, dict):
        yield from _of_object(value, schema, root, where)
    elif isinstance(value, list):
        yield from _of_array(value, schema, root, where)
    elif isinstance(value, str):
        if len(value) < schema.get("minLength", 0) or not re.search(schema.get("pattern", ""), value):
            yield f"{where}: {value!r}"
    elif isinstance(value, int | float) and not (
        schema.get("minimum", value) <= value <= schema.get("maximum", value)
    ):
        yield f"{where}: {value}"


def _is(value: Any, name: str) -> bool:
    return isinstance(value, TYPES[name]) and (name == "boolean" or not isinstance(value, bool))


def _of_object(value: dict[str, Any], schema: Any, root: dict[str, Any], where: str) -> Iterator[str]:
    for name in schema.get("required", ()):
        if name not in value:
            yield f"{where}: no {name}"
    for name, inner in value.items():
        found = schema.get("properties", {}).get(name, schema.get("additionalProperties", True))
        yield from _faults(inner, found, root, f"{where}.{name}")


def _of_array(value: list[Any], schema: Any, root: dict[str, Any], where: str) -> Iterator[str]:
    first = schema.get("prefixItems", [])
    if not schema.get("minItems", 0) <= len(value) <= schema.get("maxItems", len(value)):
        yield f"{where}: {len(value)} items"
    for index, inner in enumerate(value):
        yield from _faults(
            inner,
            first[index] if index < len(first) else schema.get("items", True),
            root,
            f"{where}[{index}]",
        )
