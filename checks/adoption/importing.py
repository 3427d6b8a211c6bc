"""Imports what `exportstate` wrote into another database: configs, orders, rules, nodes, costs, and who runs what."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from django.db import models, transaction

from checks import dispatcher, plans
from checks.adoption import adopting
from checks.adoption.states import UnreadableState
from checks.dispatcher import CHUNK, Sent
from checks.dispatcher.committing import ADOPT
from checks.dispatcher.decision import make_decision
from checks.dispatcher.transaction import Choice, entries_of
from checks.explain.exporting import VERSION
from checks.models import Config, Cost, Move, Origin
from checks.models.freezes import Freeze
from checks.models.orders import Isolation, Pause, Pin, Rule
from checks.wire.patching import IntegrationConfig, UnpatchableConfig
from nodes.models import Node, NodeRule

Row = dict[str, Any]
# What an operator decided of a node.
_OF_NODES = ("schedulable", "draining", "labels", "weight", "max_configs", "declared")
# Tables whose rows name a config, and tables whose rows stand alone.
_OF_CONFIGS: Mapping[str, type[models.Model]] = {"pins": Pin, "pauses": Pause, "isolations": Isolation, "costs": Cost}
_ALONE: Mapping[str, type[models.Model]] = {"rules": Rule, "node_rules": NodeRule, "freezes": Freeze}


class NotEmpty(Exception):
    """The database has configs or nodes already."""


def read(content: bytes) -> dict[str, list[Row]]:
    """Return the tables of an export. Raises UnreadableState for what is none, or a newer version's."""
    try:
        document = json.loads(content)
    except ValueError as error:
        raise UnreadableState(str(error)) from error
    wanted = {"configs", "origins", "assignments", "nodes", *_OF_CONFIGS, *_ALONE}
    if not isinstance(document, dict) or not isinstance(document.get("version"), int) or wanted - document.keys():
        raise UnreadableState("exportstate did not write it")
    if document["version"] > VERSION:
        raise UnreadableState(f"a newer version wrote it ({document['version']}); this one reads {VERSION}")
    return {name: document[name] for name in wanted}


def load(tables: Mapping[str, list[Row]], *, actor: str, merge: bool = False) -> dict[str, int]:
    """Write an export into this database, and return how many of each kind it has now from it.

    merge: also into one that has something: what is there stays. Configs come first, a thousand at a time, and who runs them
    last, so that an import that was stopped can be repeated with `merge`. Raises NotEmpty and UnreadableState.
    """
    if not merge and (Config.objects.exists() or Node.objects.exists()):
        raise NotEmpty("this database has configs or nodes already")
    known = _send(tables, actor)
    with transaction.atomic():
        numbers = {name: _insert(model, tables[name], known) for name, model in _OF_CONFIGS.items()}
        numbers |= {name: _insert(model, tables[name], None) for name, model in _ALONE.items()}
    nodes = _register(tables["nodes"])
    owners = {row["config_id"]: nodes.get(row["node_id"], "") for row in tables["assignments"]}
    placed = _place({known[pk]: name for pk, name in owners.items() if pk in known and name}, actor)
    return {"configs": len(known), **numbers, "nodes": len(nodes), "assignments": placed}


def _send(tables: Mapping[str, list[Row]], actor: str) -> dict[int, int]:
    """Write configs with their origins, and return their new ids: {id in the export: id here}."""
    originals = {row["id"]: _original(row) for row in tables["configs"]}
    sent = [
        Sent(
            row["source"], row["key"], originals[row["config_id"]], dispatcher.admit(originals[row["config_id"]]),
            row["scanned_by"], written=row["written"], written_hash=row["written_hash"],
        )
        for row in tables["origins"]
        if not Origin.objects.filter(source=row["source"], key=row["key"]).exists()
    ]  # fmt: skip
    for start in range(0, len(sent), CHUNK):
        dispatcher.schedule(sent[start : start + CHUNK], actor=actor)
    here = {(source, key): pk for source, key, pk in Origin.objects.values_list("source", "key", "config_id")}
    return {row["config_id"]: here[row["source"], row["key"]] for row in tables["origins"]}


def _original(row: Row) -> IntegrationConfig:
    try:
        return IntegrationConfig.from_json(row["original"])
    except (UnpatchableConfig, AttributeError) as error:
        raise UnreadableState(f"config {row['digest']}: {error}") from error


def _insert(model: type[models.Model], rows: Sequence[Row], known: Mapping[int, int] | None) -> int:
    """Insert rows of a table, those of configs under their new ids. Rows that clash with what is there are left out."""
    names = {field.attname for field in model._meta.concrete_fields} - {"id"}
    fields = {field.attname: field for field in model._meta.concrete_fields}
    made = []
    for row in rows:
        values = {name: fields[name].to_python(row[name]) for name in names & row.keys()}
        if known is not None and values["config_id"] is not None:
            if values["config_id"] not in known:
                continue
            values["config_id"] = known[values["config_id"]]
        made.append(model(**values))
    return len(model._default_manager.bulk_create(made, ignore_conflicts=True, batch_size=CHUNK))


def _register(rows: Sequence[Row]) -> dict[int, str]:
    """Register the nodes that were not lost, as adopted ones are, and return them: {id in the export: name}."""
    living = {row["id"]: row for row in rows if row["seen_at"]}
    new = set(adopting.unknown(row["name"] for row in living.values()))
    names = [row["name"] for row in living.values()]
    for start in range(0, len(names), CHUNK):
        adopting.register(names[start : start + CHUNK])
    for row in living.values():
        if row["name"] in new:
            Node.objects.filter(name=row["name"]).update(**{name: row[name] for name in _OF_NODES if name in row})
    return {pk: row["name"] for pk, row in living.items()}


def _place(owners: Mapping[int, str], actor: str) -> int:
    """Give configs to the nodes of these names, unless they have a node already. Returns how many."""
    nodes = dict(Node.objects.known().values_list("name", "pk"))

    def decide() -> dispatcher.Decision:
        entries = [one for one in entries_of(owners) if one.owner is None and not one.paused and not one.endpoint]
        entries.sort(key=lambda one: (owners[one.id], one.id))
        choices = [Choice(one, nodes[owners[one.id]], Move.Reason.ADOPTED) for one in entries]
        return make_decision(Move.Reason.ADOPTED, {"verb": ADOPT, "note": "imported"}, choices)

    plan, moves = plans.order(decide, actor=actor)
    if plan.outcome:
        raise dispatcher.StalePlan(plan.outcome)
    return len(moves)
