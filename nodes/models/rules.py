"""Rules: the labels and limits of nodes, by their names, addresses and types."""

from __future__ import annotations

import ipaddress
import json
from collections.abc import Iterable
from typing import NamedTuple

from django.core.exceptions import ValidationError
from django.core.validators import MinValueValidator
from django.db import connection, models, transaction
from django.db.models.functions import Now

from clusteragent.lib.patterns import fits
from nodes.models.nodes import Node, NodeQuerySet, NodeType
from nodes.models.words import validate_words

# Nodes that one transaction changes at most.
RULED_AT_ONCE = 1000


def validate_network(network: str) -> None:
    """An address range, as 10.1.0.0/16 or fd00::/8."""
    try:
        ipaddress.ip_network(network, strict=False)
    except ValueError as error:
        raise ValidationError(f"{network} is no address range: {error}") from None


def validate_labels(labels: object) -> None:
    """A JSON object whose values are printable texts."""
    if not isinstance(labels, dict) or not all(isinstance(value, str) for value in labels.values()):
        raise ValidationError('labels are an object with texts: {"zone": "a"}')
    if not "".join([*labels.keys(), *labels.values()]).isprintable():
        raise ValidationError("labels have printable characters alone")


class Ruled(NamedTuple):
    """The labels and limits of a node."""

    labels: dict[str, str]
    weight: float
    max_configs: int | None


def ruled(
    rules: Iterable[NodeRule], name: str, client_ip: str | None = None, node_type: int = NodeType.UNKNOWN
) -> Ruled:
    """What these rules, all of them in the order of their ids, make of a node of that name, address and type."""
    labels: dict[str, str] = {}
    weight, max_configs = 1.0, None
    for rule in rules:
        if rule.covers(name, client_ip, node_type):
            # An empty list counts as empty labels, which no validator sees.
            labels |= rule.labels or {}
            weight = rule.weight or weight
            max_configs = max_configs if rule.max_configs is None else rule.max_configs
    return Ruled(labels, weight, max_configs)


class NodeRuleQuerySet(models.QuerySet["NodeRule"]):
    def apply(self, nodes: NodeQuerySet | None = None) -> int:
        """Set labels and limits of these nodes (else of all known ones) by the rules; later rules win. Returns how many differed.

        All known nodes are changed in chunks of RULED_AT_ONCE, each committed, since changes of the map wait for nodes that
        we lock; within a transaction that raises RuntimeError. A saved rule wakes the leader, which applies it at the same
        time: nodes that it changes first count here, too.
        """
        if nodes is not None:
            return self._apply(nodes)
        known = Node.objects.known()
        ids = [node.pk for node in self._disobeying(known)]
        for start in range(0, len(ids), RULED_AT_ONCE):
            with transaction.atomic(durable=True):
                self._apply(known.filter(pk__in=ids[start : start + RULED_AT_ONCE]))
        return len(ids)

    # Not the ORM: its bulk_update takes a branch of a CASE for each.
    _OBEY = """
        UPDATE nodes_node AS n SET labels = new.labels::jsonb, weight = new.weight, max_configs = new.max_configs
        FROM unnest(%s::bigint[], %s::text[], %s::float8[], %s::integer[]) AS new (id, labels, weight, max_configs)
        WHERE n.id = new.id
    """

    @transaction.atomic
    def _apply(self, nodes: NodeQuerySet) -> int:
        # In the order of the key, as every change of the map locks them.
        changed = self._disobeying(nodes.order_by("pk").select_for_update(no_key=True, of=("self",)))
        if changed:
            columns = zip(
                *((node.pk, json.dumps(node.labels), node.weight, node.max_configs) for node in changed), strict=True
            )
            with connection.cursor() as cursor:
                cursor.execute(self._OBEY, [list(column) for column in columns])
        return len(changed)

    def _disobeying(self, nodes: NodeQuerySet) -> list[Node]:
        """Those of these nodes that differ from the rules, with the labels and limits that they should have."""
        rules = list(self.order_by("pk"))
        changed = []
        if not rules:
            # Nearly always nothing is left to do then, for very many.
            nodes = nodes.exclude(labels={}, weight=1.0, max_configs=None)
        for node in nodes.select_related("heartbeat"):
            wanted = ruled(rules, node.name, node.heartbeat.client_ip, node.heartbeat.node_type)
            if wanted != (node.labels, node.weight, node.max_configs):
                node.labels, node.weight, node.max_configs = wanted
                changed.append(node)
        return changed


class NodeRule(models.Model):
    """Labels and limits for the nodes that it covers. Applied when a node registers, since names of pods don't last."""

    pattern = models.CharField(
        "names",
        max_length=253,
        default="*",
        validators=[validate_words],
        help_text="Of nodes, with * and ?: runner-*",
        blank=True,
    )
    network = models.CharField(
        max_length=64, blank=True, validators=[validate_network], help_text="Of addresses: 10.1.0.0/16. Empty: all."
    )
    node_type = models.SmallIntegerField("type", choices=NodeType, null=True, blank=True, help_text="Empty: all.")
    labels = models.JSONField(default=dict, blank=True, validators=[validate_labels], help_text='{"zone": "a"}')
    weight = models.FloatField(
        null=True,
        blank=True,
        validators=[MinValueValidator(0.01)],
        help_text="Its share compared with others: 0.5 is half.",
    )
    max_configs = models.PositiveIntegerField("most configs", null=True, blank=True)
    author = models.CharField(max_length=253, blank=True, editable=False)
    note = models.TextField(blank=True)
    time = models.DateTimeField(db_default=Now(), editable=False)

    objects = NodeRuleQuerySet.as_manager()

    class Meta:
        ordering = ["id"]

    def __str__(self) -> str:
        return f"{self.pattern} {self.network}".strip()

    def covers(self, name: str, client_ip: str | None, node_type: int) -> bool:
        """Whether the rule holds for a node of that name, address and type."""
        if not fits(name, self.pattern or "*") or self.node_type not in (None, node_type):
            return False
        if not self.network:
            return True
        return client_ip is not None and ipaddress.ip_address(client_ip) in ipaddress.ip_network(
            self.network, strict=False
        )
