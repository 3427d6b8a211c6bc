"""Checking what `exportstate` wrote: every row of it, before anything is written. Reads no database."""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple

from django.core.exceptions import ValidationError
from django.db import models
from django.db.models.fields import NOT_PROVIDED

from checks import dispatcher
from checks.dispatcher import Refused, Sent
from checks.explain.exporting import HEARD, LEFT_OUT
from checks.models import Assignment, Config, Cost, Origin
from checks.models.freezes import Freeze
from checks.models.orders import Isolation, Pause, Pin, Rule
from checks.wire.patching import IntegrationConfig, PatchedConfig, UnpatchableConfig
from checks.wire.scrub import scrub
from clusteragent.lib.words import cut, escape_controls
from nodes import declarations
from nodes.models import Heartbeat, Node, NodeRule, validate_labels

Row = dict[str, Any]
# Tables whose rows name a config, and tables whose rows stand alone.
OF_CONFIGS: Mapping[str, type[models.Model]] = {"pins": Pin, "pauses": Pause, "isolations": Isolation, "costs": Cost}
ALONE: Mapping[str, type[models.Model]] = {"rules": Rule, "node_rules": NodeRule, "freezes": Freeze}
# All that is imported. What rows refer to comes before them.
KINDS: Mapping[str, type[models.Model]] = {
    "configs": Config, "origins": Origin, "nodes": Node, "assignments": Assignment, **OF_CONFIGS, **ALONE,
}  # fmt: skip
# The columns that a kind has of another table, where they may be null.
_BESIDES = {"nodes": {name: Heartbeat._meta.get_field(name) for name in HEARD}}
# The keys of a config's text.
_SAID = IntegrationConfig("").to_json().keys()
# Findings that an error names, and the characters of each.
MOST_NAMED, MOST_CHARACTERS = 10, 200
# PostgreSQL refuses sums that are larger than it can hold, and products that are smaller.
_SMALLEST, _LARGEST = 1e-30, 1e9
_EARLIEST, _LATEST = datetime(1970, 1, 1, tzinfo=UTC), datetime(9998, 1, 1, tzinfo=UTC)
# Rules, which alone set weights, have none below.
_LEAST_WEIGHT = 0.01

_TYPES: Mapping[Any, Any] = {
    models.BooleanField: bool,
    models.IntegerField: int,
    models.ForeignKey: int,
    models.FloatField: (int, float),
    models.JSONField: dict,
    models.Field: str,
}


class InvalidRows(ValueError):
    """Rows of an export can't be imported. The message names the first ones and says of each what is wrong, without secrets."""


class Exported(NamedTuple):
    """An export whose rows are all valid. Ids are those of the export.

    sent: [(config's id, what an origin of it sends)]. rows: {kind: its rows as models}, of OF_CONFIGS and ALONE. nodes: {id: row}
    of those that were not lost. owners: {config's id: node's id}. time: when it was written; None if that can't be read.
    """

    sent: Sequence[tuple[int, Sent]]
    rows: Mapping[str, Sequence[Any]]
    nodes: Mapping[int, Row]
    owners: Mapping[int, int]
    time: datetime | None = None


class _Findings:
    """What is wrong with the rows."""

    def __init__(self) -> None:
        self.found: list[str] = []

    def check(self, kind: str, number: int, do: Callable[..., Any], *about: Any) -> Any:
        """Return what `do` returns. If it finds the row invalid, note that and return None."""
        try:
            return do(*about)
        except ValidationError as error:
            problem = " ".join(error.messages)
        except (Refused, UnpatchableConfig) as error:
            problem = str(error)
        self.found.append(f"{kind} {number}: {cut(escape_controls(scrub(problem)), MOST_CHARACTERS)}")
        return None

    def require_none(self) -> None:
        """Raise InvalidRows if something is wrong."""
        if self.found:
            more = len(self.found) - MOST_NAMED
            raise InvalidRows("; ".join(self.found[:MOST_NAMED]) + (f"; and {more} more" if more > 0 else ""))


def check(tables: Mapping[str, Any]) -> Exported:
    """Return what an export says. tables: {kind: rows}. Raises InvalidRows for one that does not hold together."""
    findings = _Findings()
    for kind in KINDS:
        if not isinstance(tables[kind], list):
            raise InvalidRows(f"{kind} is no list")
    # Of wrong rows, too: what refers to them is not wrong.
    ids = {model: _named_in(tables[kind], "id") for kind, model in KINDS.items()}
    made = {kind: _read(kind, tables[kind], ids, findings) for kind in KINDS}
    sending = _named_in(tables["origins"], "config_id")
    configs = {one.pk: findings.check("configs", number, _patched, one, sending) for number, one in made["configs"]}
    findings.require_none()
    rows = {kind: [one for _, one in found] for kind, found in made.items()}
    # Costs outlive their configs for a while.
    rows["costs"] = [one for one in rows["costs"] if one.pk in configs]
    return Exported(
        [(one.config_id, _sent(one, configs[one.config_id])) for one in rows["origins"]],
        {kind: rows[kind] for kind in (*OF_CONFIGS, *ALONE)},
        {row["id"]: row for row in tables["nodes"] if row.get("seen_at") is not None},
        {one.config_id: one.node_id for one in rows["assignments"]},
    )


def _named_in(rows: Sequence[Any], column: str) -> set[int]:
    """The ids in a column of these rows, which may be of any form."""
    named = (row.get(column) for row in rows if isinstance(row, dict))
    return {value for value in named if isinstance(value, int)}


def _read(
    kind: str, rows: Sequence[Any], ids: Mapping[type[models.Model], set[int]], findings: _Findings
) -> list[tuple[int, Any]]:
    """The valid rows of a kind as models that are not saved, each with its number."""
    made = [(number, findings.check(kind, number, _made, kind, row)) for number, row in enumerate(rows, 1)]
    valid = [(number, one) for number, one in made if one is not None]
    seen: set[tuple[Any, ...]] = set()
    for number, one in valid:
        findings.check(kind, number, _refuse_repeated, one, seen)
        findings.check(kind, number, _refuse_unknown, one, ids)
    return valid


def _made(kind: str, row: Any) -> models.Model:
    """The row as a model that is not saved. Raises ValidationError for values that no such row can have."""
    if not isinstance(row, dict):
        raise ValidationError("it is no object")
    model, besides = KINDS[kind], _BESIDES.get(kind, {})
    fields = {one.attname: one for one in model._meta.concrete_fields if one.attname not in LEFT_OUT.get(kind, ())}
    _refuse_unlike(row, fields, besides)
    for name in besides.keys() & row.keys():
        if row[name] is not None:
            _value(besides[name], row[name])
    # Else it would be known only once the row is inserted.
    defaults = {name: field.db_default for name, field in fields.items() if isinstance(field.db_default, str | float)}
    one = model(**defaults | {name: _value(fields[name], row[name]) for name in fields.keys() & row.keys()})
    one.clean()
    if isinstance(one, Node):
        _validate_node(one)
    if isinstance(one, Cost):
        _require(one.workers_needed >= 0, "workers_needed: it is below 0")
    return one


def _refuse_unlike(row: Row, fields: Mapping[str, Any], besides: Collection[str]) -> None:
    """Raise ValidationError for a row that has fields which nobody knows, or lacks some without a default."""
    for name in sorted(row.keys() - fields.keys() - set(besides)):
        raise ValidationError(f"it has a field {name!r}, which this version does not know")
    for name, field in fields.items():
        if name not in row and not (field.null or field.has_default() or field.db_default is not NOT_PROVIDED):
            raise ValidationError(f"it has no {name}")


def _validate_node(node: Node) -> None:
    """Raise ValidationError for what neither a rule nor a node agent can have set."""
    validate_labels(node.labels)
    _require(_is_declaration(node.declared), "declared: no node declares this")
    _require(node.weight >= _LEAST_WEIGHT, f"weight: it is below {_LEAST_WEIGHT}")


def _value(field: Any, value: Any) -> Any:
    """The value as the field has it. Raises ValidationError, which names the field, for one that it can't have."""
    try:
        if value is None:
            _require(field.null, "it is null")
            return None
        _refuse_odd(field, value)
        value = field.to_python(value)
        if isinstance(value, datetime):
            _require(_is_usual_time(value), "it is no usual time with a time zone")
        if value in field.empty_values:
            _require(field.blank or field.db_default == value, "it is empty")
        elif not isinstance(field, models.ForeignKey):
            field.run_validators(value)
            field.validate(value, None)
    except ValidationError as error:
        raise ValidationError(f"{field.attname}: {' '.join(error.messages)}") from error
    return value


def _refuse_odd(field: Any, value: Any) -> None:
    """Raise ValidationError for a value of another type, which Django would convert, and for what a database can't hold."""
    wanted = next(wanted for kind, wanted in _TYPES.items() if isinstance(field, kind))
    is_right = isinstance(value, wanted) and (wanted is bool or not isinstance(value, bool))
    _require(is_right, "it is of a wrong type")
    _require(all(map(_is_storable, _texts(value))), "it holds a character that can't be stored")
    if isinstance(field, models.CharField):
        _require(escape_controls(value) == value, "it is not one line of printable characters")
    if isinstance(field, models.FloatField):
        _require(value == 0 or _SMALLEST <= abs(value) <= _LARGEST, "it is no usual number")


def _texts(value: Any) -> Iterator[str]:
    """All texts of JSON data. Without recursion, since it may be deep."""
    waiting = [value]
    while waiting:
        part = waiting.pop()
        if isinstance(part, str):
            yield part
        elif isinstance(part, dict):
            waiting += [*part, *part.values()]
        elif isinstance(part, list):
            waiting += part


def _is_storable(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return "\0" not in text


def _is_usual_time(value: datetime) -> bool:
    return value.tzinfo is not None and _EARLIEST <= value < _LATEST


def _is_declaration(declared: str) -> bool:
    try:
        said = declarations.parse(declared)
        names = [*said.include, *said.exclude, said.group]
        return all(isinstance(name, str) for name in names) and declarations.canonical(*said) == declared
    except (AttributeError, TypeError, ValueError, RecursionError):
        return False


def _refuse_repeated(one: models.Model, seen: set[tuple[Any, ...]]) -> None:
    """Raise ValidationError if a row before has a key that this one should have alone."""
    meta: Any = one._meta
    unique = [(field.attname,) for field in meta.concrete_fields if field.unique]
    together = [item.fields for item in meta.constraints if isinstance(item, models.UniqueConstraint)]
    for names in [*unique, *(tuple(meta.get_field(name).attname for name in fields) for fields in together)]:
        key = (*names, *(getattr(one, name) for name in names))
        if None not in key:
            _require(key not in seen, f"another has the same {' and '.join(names)}")
            seen.add(key)


def _refuse_unknown(one: models.Model, ids: Mapping[type[models.Model], set[int]]) -> None:
    """Raise ValidationError if the row refers to one that is not there. What has no constraint may."""
    field: Any
    for field in one._meta.concrete_fields:
        if field.is_relation and field.db_constraint and field.related_model in ids:
            value = getattr(one, field.attname)
            _require(value is None or value in ids[field.related_model], f"{field.attname} {value} is not there")


def _patched(config: Config, sending: Collection[int]) -> tuple[IntegrationConfig, PatchedConfig]:
    """The config as a source sends it, and as it is dispatched. Raises ValidationError, Refused and UnpatchableConfig."""
    _require(config.pk in sending, "no origin sends it")
    for name in sorted(config.original.keys() - _SAID):
        raise ValidationError(f"original: it has a field {name!r}, which this version does not know")
    original = IntegrationConfig.from_json(config.original)
    for name in ("name", "provider", "node_name"):
        _require(getattr(config, name) == getattr(original, name), f"{name}: it is not that of its original")
    return original, dispatcher.admit(original)


def _sent(origin: Origin, config: tuple[IntegrationConfig, PatchedConfig]) -> Sent:
    return Sent(
        origin.source, origin.key, *config, origin.scanned_by, written=origin.written, written_hash=origin.written_hash
    )


def _require(condition: bool, problem: str) -> None:
    if not condition:
        raise ValidationError(problem)
