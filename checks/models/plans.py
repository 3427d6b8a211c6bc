"""Plans, and the SQL that reads their input for all configs at once."""

from __future__ import annotations

from datetime import timedelta
from typing import Any, NamedTuple

from django.db import models
from django.db.models.functions import Coalesce, Now

from checks.models.map import Move, fetched, move_reasons
from checks.models.titles import called
from clusteragent.lib import conf
from clusteragent.lib.database.bulk import without_nested_loops
from clusteragent.lib.words import plain_count

# Without stats of a node, a config counts as running when the node acknowledged it and has had it for so long.
BELIEVED_AFTER = timedelta(minutes=2)


class Held(NamedTuple):
    """A config that has an owner.

    fetched: the owner acknowledged it. has_run: it ran there. moved: it came from another node within the cooldown.
    """

    id: int
    digest: str
    name: str
    title: str
    node: str
    fetched: bool
    has_run: bool
    moved: bool

    @property
    def shown(self) -> str:
        """The config as people see it."""
        return called(self.title, self.name, self.digest)


class PlanQuerySet(models.QuerySet["Plan"]):
    """Reads the input of plans, and plans themselves."""

    def with_number(self) -> PlanQuerySet:
        """Each with the `number` of its moves, which are not read for it unless an older version stored the plan."""
        counted = models.Func("moves", function="jsonb_array_length", output_field=models.IntegerField())
        return self.annotate(number=Coalesce("size", counted))

    # Not the ORM: stats, ledger and map are joined once for all configs. Versions are the database's time in nanoseconds,
    # so a version older than an assignment does not contain it. A config that came back to the same node, or was edited,
    # did not move.
    _HELD = f"""
        WITH reported AS (
            SELECT s.node_id, s.check_id, r.stats_at
            FROM nodes_runnerstats AS s JOIN nodes_runner AS r ON r.node_id = s.node_id
        ), ran AS (
            SELECT a.config_id
            FROM reported
            JOIN checks_instance AS i ON i.check_id = reported.check_id
            JOIN checks_assignment AS a
                ON a.config_id = i.config_id AND a.node_id = reported.node_id AND a.since <= reported.stats_at
            UNION
            SELECT a.config_id
            FROM reported
            JOIN checks_assignment AS a ON a.node_id = reported.node_id AND a.since <= reported.stats_at
            JOIN checks_config AS c ON c.id = a.config_id AND c.name = reported.check_id
        ), moved AS (
            SELECT DISTINCT config_id FROM checks_move
            WHERE time >= statement_timestamp() - %(cooldown)s * interval '1 second'
                AND source_node <> '' AND to_node <> '' AND source_node <> to_node
        ), held AS (
            SELECT a.config_id, a.node_id, a.since, {fetched("a.since")} AS fetched
            FROM checks_assignment AS a
            JOIN nodes_heartbeat AS h ON h.node_id = a.node_id
            JOIN nodes_node AS n ON n.id = a.node_id
        )
        SELECT c.id, c.digest, c.name, c.title, n.name, held.fetched,
            ran.config_id IS NOT NULL OR (
                coalesce(r.failures, 1) > 0 AND held.fetched
                AND held.since < statement_timestamp() - %(believed)s * interval '1 second'
            ),
            moved.config_id IS NOT NULL
        FROM held
        JOIN checks_config AS c ON c.id = held.config_id
        JOIN nodes_node AS n ON n.id = held.node_id
        LEFT JOIN nodes_runner AS r ON r.node_id = held.node_id
        LEFT JOIN ran ON ran.config_id = held.config_id
        LEFT JOIN moved ON moved.config_id = held.config_id
    """  # noqa: S608 - our own words

    def held(self) -> list[Held]:
        """Return every config that a known node has."""
        values = {
            "cooldown": conf.REBALANCE_COOLDOWN.total_seconds(),
            "believed": BELIEVED_AFTER.total_seconds(),
        }
        with without_nested_loops() as cursor:
            cursor.execute(self._HELD, values)
            return [Held(*row) for row in cursor.fetchall()]


class Plan(models.Model):
    """Planned moves. A plan is stale once a config or node that it names has changed."""

    author = models.CharField(max_length=253, blank=True)
    # The Move.Reason that its moves get.
    reason = models.CharField(max_length=16, choices=move_reasons, default=Move.Reason.REBALANCED)
    revision = models.BigIntegerField()
    # [{"config": id, "digest": …, "name": …, "title": …, "source": node's id, "to": node's id, "from_node": name,
    #   "to_node": name, "cost": workers, "gain": …}], the greatest gain first
    moves = models.JSONField(default=list)
    # How many there are. Null in rows of older versions.
    size = models.PositiveIntegerField(null=True)
    # The order that is given together with the moves, with what stays: see Decision.order. Empty for a rebalance.
    order = models.JSONField(default=dict, db_default={})
    # {node's name: {"before": utilization, "after": utilization}} of the nodes that the moves touch
    nodes = models.JSONField(default=dict)
    # {"peak": [before, after], "stddev": [before, after]}
    spread = models.JSONField(default=dict)
    time = models.DateTimeField(db_default=Now())
    applied_at = models.DateTimeField(null=True)
    # How many of the moves were made, and why not all of them.
    moved = models.PositiveIntegerField(db_default=0)
    outcome = models.TextField(db_default="")

    objects = PlanQuerySet.as_manager()

    class Meta:
        ordering = ["-id"]

    def __str__(self) -> str:
        """What it does, in a few words: of one config with its title. The moves of a plan that is annotated with their `number`
        and the first of them (`first_move`) are not read.
        """
        order, configs = self.order, self._configs()
        match order.get("verb"):
            case "reassign":
                them = "it" if self._moving() == 1 else "them"
                return f"Give {configs} to {order['node']}{f' and pin {them} there' if order['hold'] else ''}"
            case "pin":
                nodes = {"node": "", "pattern": "nodes named ", "label": "nodes with "}[order["kind"]]
                return f"Pin {configs} to {nodes}{order['aim']}"
            case "pause" | "resume" | "adopt" as verb:
                return f"{verb.capitalize()} {configs}"
            case "isolate":
                return f"Isolate {self._isolated()}"
            case "drain":
                return f"Drain {', '.join(order['nodes'])}"
            case "undo":
                return f"Undo the {'move' if self._moving() == 1 else 'moves'} of {configs}"
            case _:
                return f"Rebalance {configs}"

    def staying(self) -> list[dict[str, Any]]:
        """The configs that it is about and that stay where they are, as the moves name theirs. Older versions stored no names."""
        return [
            {"config": config, "digest": digest, "name": (*names, "config")[0], "title": (*names, "", "")[1]}
            for config, digest, _, *names in self.order.get("also", ())
        ]

    def concerned(self, most: int) -> tuple[list[int], list[str]]:
        """The ids of the first configs that it isolates, moves or leaves where they are, and the names of the first nodes that it
        is about.
        """
        ends = [name for move in self.moves for name in (move["from_node"], move["to_node"]) if name]
        nodes = list(dict.fromkeys([*self.order.get("nodes", ()), *ends]))
        staying = (config for config, *_ in self.order.get("also", ()))
        about = [*self.order.get("alone", ()), *(move["config"] for move in self.moves), *staying]
        return list(dict.fromkeys(about))[:most], nodes[:most]

    def _moving(self) -> int:
        number = getattr(self, "number", None)
        return len(self.moves) if number is None else int(number)

    def _configs(self) -> str:
        """The configs that it is about: by its title if it is one, else how many."""
        moving, staying = self._moving(), self.staying()
        if moving + len(staying) != 1:
            return plain_count(moving + len(staying), "config")
        return _named(staying[0] if staying else getattr(self, "first_move", None) or self.moves[0])

    def _isolated(self) -> str:
        """The configs that it isolates: as a rule they stay where they are, and others move."""
        alone = self.order["alone"]
        staying = [one for one in self.staying() if one["config"] in alone]
        if len(alone) == len(staying) == 1:
            return _named(staying[0])
        if len(alone) == 1 and "moves" not in self.get_deferred_fields():
            return next((_named(move) for move in self.moves if move["config"] in alone), "1 config")
        return plain_count(len(alone), "config")


def _named(move: dict[str, Any]) -> str:
    """How people call the config of a move, or one that stays. Plans of older versions have no titles."""
    return called(move.get("title", ""), move["name"], move["digest"])
