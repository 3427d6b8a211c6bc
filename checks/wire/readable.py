"""The readable form of a config: all fields as one YAML text, and the scrubbing of its names."""

import json
import re
from collections.abc import Mapping
from typing import Any

from checks.wire import scrub, yamlnodes

TEXTS = ("init_config", "metric_config", "logs")
_compact_json = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode


def readable(body: Mapping[str, Any]) -> str:
    """Return the whole config as YAML, without empty fields."""
    values = {key: value for key, value in body.items() if value}
    instances = "".join(_indented("- ", text) for text in values.pop("instances", ()))
    lines = [f"check_name: {yamlnodes.one_line(values.pop('check_name'))}\n"]
    lines += [_block(key, values.pop(key)) for key in ("init_config",) if key in values]
    lines.append(f"instances:\n{instances}" if instances else "instances: []\n")
    for key, value in values.items():
        if key in TEXTS:
            lines.append(_block(key, value))
        else:
            lines.append(f"{key}: {yamlnodes.one_line(value) if isinstance(value, str) else _compact_json(value)}\n")
    return "".join(lines)


def sent_by(text: str, source: str, provider: str) -> str:
    """Return a readable config with another source and provider."""
    for key, value in (("source", source), ("provider", provider)):
        line = f"{key}: {yamlnodes.one_line(value)}".replace("\\", r"\\")
        text = re.sub(f"^{key}: .*$", line, text, count=1, flags=re.MULTILINE)
    return text


def _block(key: str, text: str) -> str:
    return f"{key}: {{}}\n" if text.strip() == "{}" else f"{key}:\n{_indented('  ', text)}"


def _indented(first: str, text: str) -> str:
    return first + text.removesuffix("\n").replace("\n", "\n  ") + "\n"


def hidden_fields(body: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields, except texts and instances, that contain secrets: {key: scrubbed value}. Names may be URLs with
    passwords.
    """
    shown = {key: _scrubbed(value) for key, value in body.items() if key not in (*TEXTS, "instances")}
    return {key: value for key, value in shown.items() if value != body[key]}


def _scrubbed(value: Any) -> Any:
    if isinstance(value, str):
        return scrub.scrub(value)
    if isinstance(value, Mapping):
        return {
            scrub.scrub(str(key)): scrub.MASK if scrub.is_secret(str(key)) and one else _scrubbed(one)
            for key, one in value.items()
        }
    return type(value)(map(_scrubbed, value)) if isinstance(value, list | tuple) else value
