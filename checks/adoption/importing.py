"""Imports what `exportstate` wrote into another database: configs, orders, rules, nodes, costs, and who runs what."""

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime
from functools import partial
from typing import Any, NoReturn

from django.core.serializers.json import DjangoJSONEncoder
from django.db import models
from django.db.models.expressions import DatabaseDefault

from acts.models import Act
from acts.recording import record
from checks import dispatcher, plans
from checks.adoption import adopting, exported
from checks.adoption.exported import ALONE, KINDS, OF_CONFIGS, Exported, InvalidRows, Row
from checks.adoption.states import UnreadableState
from checks.dispatcher import CHUNK, Sent, acting
from checks.dispatcher.committing import ADOPT
from checks.dispatcher.decision import make_decision
from checks.dispatcher.transaction import Choice, MapWriter, entries_of
from checks.explain import foreseen, objections, rehearsed
from checks.explain.exporting import VERSION
from checks.models import ClusterStore, Config, Move, Origin
from checks.models.orders import Pause
from clusteragent.lib.words import utc
from nodes.models import Node

# What an operator decided of a node.
_OF_NODES = ("schedulable", "draining", "drain_by", "labels", "weight", "max_configs", "declared")
# What an export has besides, of which nothing is imported.
_UNUSED = {"version", "time", "sources", "cluster"}


class NotEmpty(Exception):
    """The database has configs or nodes already."""


def read(content: bytes) -> Exported:
    """Return what an export says. Raises UnreadableState for what is none, a newer version's, or wrong in some row."""
    try:
        document = json.loads(content, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise UnreadableState(str(error)) from error
    version = document.get("version") if isinstance(document, dict) else None
    if type(version) is not int or version < 1 or KINDS.keys() - document.keys():
        raise UnreadableState("exportstate did not write it")
    if version > VERSION:
        raise UnreadableState(f"a newer version wrote it ({version}); this one reads {VERSION}")
    for name in sorted(document.keys() - KINDS.keys() - _UNUSED):
        raise UnreadableState(f"it has {name!r}, which this version does not know")
    try:
        return exported.check(document)._replace(time=_time(document.get("time")))
    except InvalidRows as error:
        raise UnreadableState(str(error)) from error


def load(found: Exported, *, actor: str, merge: bool = False, accepted: Collection[str] = ()) -> dict[str, int]:
    """Write an export into this database, and return how many of each kind it has now from it. All or nothing.

    merge: also into one that has something: what is there stays. accepted: of what it may mean, see `objections`; all of it need
    not be worked out. Raises NotEmpty and NotAccepted.
    """
    is_asked = not {objections.DANGLING, objections.NO_NODE} <= {*accepted}
    with dispatcher.single_transaction():
        # Before reading: nothing else changes the map until all is written.
        ClusterStore.objects.lock()
        if not merge and (Config.objects.exists() or Node.objects.exists()):
            raise NotEmpty("this database has configs or nodes already")
        here = {"configs": Config.objects.count(), "nodes": Node.objects.known().count()}
        before = rehearsed.read(with_due=True) if is_asked else None
        known, new = _send(found.sent, actor)
        kinds = {**OF_CONFIGS, **ALONE}
        numbers = {name: _insert(model, found.rows[name], known) for name, model in kinds.items()}
        _stop_paused(known.values(), actor)
        # Last, as node agents that report for the first time wait for what was written here.
        nodes = _register(found.nodes)
        owners = {known[config]: nodes[node] for config, node in found.owners.items() if node in nodes}
        placed = _place(owners, new, actor)
        if before:
            forecast = rehearsed.since(before, "", with_due=True)
            objections.require_accepted(forecast.objections, accepted)
            worse = [one.reason for one in forecast.objections]
            foreseen.note(forecast.sentences, worse, {"Moves": forecast.moves})
        written = {"configs": len(known), **numbers, "nodes": len(nodes), "assignments": placed}
        coming = acting.first_named(Config.objects.filter(pk__in=new))
        told = written | {"new_configs": coming["number"], "first": coming["configs"]}
        told |= {"first_nodes": sorted(nodes.values())[: acting.MOST_BEFORE], "written": found.time and utc(found.time)}
        record(
            Act.Verb.IMPORT,
            "what exportstate wrote",
            before=here,
            after=told,
            configs=known.values(),
            nodes=nodes.values(),
        )
    return written


def _time(value: Any) -> datetime | None:
    try:
        time = datetime.fromisoformat(value)
    except (TypeError, ValueError):
        return None
    return time if time.tzinfo else None


def _refuse_constant(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is no JSON")


def _send(sent: Sequence[tuple[int, Sent]], actor: str) -> tuple[dict[int, int], set[int]]:
    """Write configs with their origins. Returns {id in the export: id here}, and the ids here of those that are new."""
    before = {(source, key): pk for source, key, pk in _origins()}
    new = [one for _, one in sent if (one.source, one.key) not in before]
    for start in range(0, len(new), CHUNK):
        dispatcher.schedule(new[start : start + CHUNK], actor=actor)
    here = {(source, key): pk for source, key, pk in _origins()}
    known = {config: here[one.source, one.key] for config, one in sent}
    return known, set(here.values()) - set(before.values())


def _origins() -> Iterable[tuple[str, str, int]]:
    return Origin.objects.values_list("source", "key", "config_id")


def _insert(model: type[models.Model], rows: Sequence[Any], known: Mapping[int, int]) -> int:
    """Insert rows of a table, those of configs under their new ids, and return how many there are.

    Left out is what is there already, and what clashes with what is there.
    """
    # The number of a plan is of the server that the order was given on.
    names = [field.attname for field in model._meta.concrete_fields if field.attname not in ("id", "plan")]
    present = {_as_exported(row) for row in model._default_manager.values_list(*names)}
    for one in rows:
        if "config_id" in names:
            one.config_id = known.get(one.config_id)
        if model._meta.pk.attname == "id":
            one.pk = None
    fresh = [one for one in rows if _as_exported([getattr(one, name) for name in names]) not in present]
    model._default_manager.bulk_create(fresh, ignore_conflicts=True, batch_size=CHUNK)
    return len(rows)


def _as_exported(values: Iterable[Any]) -> str:
    # Of an older version's rows some columns are not given.
    given = [None if isinstance(value, DatabaseDefault) else value for value in values]
    return json.dumps(given, cls=DjangoJSONEncoder, sort_keys=True)


def _stop_paused(ids: Iterable[int], actor: str) -> None:
    """Let those of these configs that are paused neither run nor dangle."""
    paused = list(Pause.objects.of(list(ids)).values_list("config_id", flat=True))
    for start in range(0, len(paused), CHUNK):
        entries = entries_of(paused[start : start + CHUNK])
        writer = MapWriter(None, actor)
        writer.apply(Choice(one, None, Move.Reason.PAUSED) for one in entries)
        Config.objects.settle([one.id for one in entries])
        if writer.moves:
            writer.finish()


def _register(rows: Mapping[int, Row]) -> dict[int, str]:
    """Register nodes, as adopted ones are, and return them: {id in the export: name}."""
    # In one order over all steps, so that this and others that register never wait for each other.
    names = sorted(row["name"] for row in rows.values())
    new = set(adopting.unknown(names))
    for start in range(0, len(names), CHUNK):
        adopting.register(names[start : start + CHUNK])
    for row in rows.values():
        if row["name"] in new:
            Node.objects.filter(name=row["name"]).update(**{name: row[name] for name in _OF_NODES if name in row})
    return {pk: row["name"] for pk, row in rows.items()}


def _place(owners: Mapping[int, str], new: Collection[int], actor: str) -> int:
    """Give configs to the nodes of these names: those that have no node, and those that are new here. Returns how many."""
    # Who registers a node right now keeps it from being registered here.
    nodes = dict(Node.objects.known().values_list("name", "pk"))
    ids = sorted((pk for pk, name in owners.items() if name in nodes), key=lambda pk: (owners[pk], pk))

    def decide(chunk: Collection[int]) -> dispatcher.Decision:
        entries = [one for one in entries_of(chunk) if one.owner is None or one.id in new]
        free = [one for one in entries if not one.paused and not one.endpoint]
        choices = [Choice(one, nodes[owners[one.id]], Move.Reason.ADOPTED) for one in free]
        return make_decision(Move.Reason.ADOPTED, {"verb": ADOPT, "note": "imported"}, choices)

    placed = 0
    for start in range(0, len(ids), CHUNK):
        _, moves = plans.order(partial(decide, ids[start : start + CHUNK]), actor=actor)
        placed += len(moves)
    return placed
