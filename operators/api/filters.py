"""The filters of the lists of the operators' API."""

from collections.abc import Callable, Mapping
from typing import Any

import django_filters as filters
from django import forms
from django.db.models import Q, QuerySet
from django_filters.rest_framework import DjangoFilterBackend
from rest_framework.exceptions import ValidationError
from rest_framework.request import Request

from acts.models import Act
from checks.models import Config, Instance, Move, Origin
from checks.models.configs import displayable
from checks.wire.scrub import scrub
from clusteragent.lib.shortids import short_id_in
from nodes.models import Node, NodeEvent, NodeType
from operators.api.fields import NODE_STATES
from operators.queries import CONFIG_STATES, CONFIG_WORDS, NODE_WORDS, Word, matching, of_node
from operators.roles import sees_digests
from operators.terms import BadQuery


def _choices(*values: str) -> list[tuple[str, str]]:
    return [(value, value) for value in values]


class WholeNumberFilter(filters.NumberFilter):
    """A filter by a whole number. The library's own also takes 1e999."""

    field_class = forms.IntegerField


class StrictFilterBackend(DjangoFilterBackend):
    """Applies a list's filters and refuses unknown ones: a misspelt filter would otherwise let every row through."""

    def filter_queryset(self, request: Request, queryset: QuerySet[Any], view: Any) -> QuerySet[Any]:
        known = set(view.filterset_class.base_filters if view.filterset_class else ())
        if view.action == "list":
            for name in request.query_params.keys() - known - {"cursor", "limit", "format"}:
                raise ValidationError(
                    {name: [f"There is no such filter. There are {', '.join(sorted(known)) or 'none'}."]}
                )
        return super().filter_queryset(request, queryset, view)


class DigestFilter(filters.FilterSet):
    """A filter by digest, for those who may see digests."""

    digest = filters.CharFilter(method="with_digest", help_text="For authors; others ask for the short_id.")

    def with_digest(self, rows: QuerySet[Any], name: str, value: str) -> QuerySet[Any]:
        """The rows with this digest; none without the permission to see digests."""
        return rows.filter(digest=value) if sees_digests(self.request.user) else rows.none()


def _matching(rows: Any, query: str, words: Mapping[str, Word], free: Callable[[Any, str], Any]) -> Any:
    """See `queries.matching`. A query that can't be understood is answered with 400."""
    try:
        return matching(rows, query, words, free)
    except BadQuery as error:
        raise ValidationError({"q": [scrub(str(error))]}) from error


class ConfigFilter(DigestFilter):
    """Filters of the configs."""

    q = filters.CharFilter(
        method="understanding", help_text="As in the bar above the list: tag:env:prod -state:failing."
    )

    check = filters.CharFilter(field_name="name", help_text="The check's name.")
    title = filters.CharFilter(help_text="How people call it: the whole title.")
    state = filters.ChoiceFilter(choices=_choices(*CONFIG_STATES), method="in_state")
    node = filters.CharFilter(method="of_node", help_text="What it runs, and its endpoint checks.")
    source = filters.CharFilter(method="of_source", help_text="As file, admin or api:shop.")
    key = filters.CharFilter(method="of_key", help_text="Its name or path in its source, beside source.")
    short_id = filters.CharFilter(method="called", help_text="Of the config or one of its checks.")
    check_id = filters.CharFilter(
        method="with_check_id", help_text="As it is answered; for authors, as node agents have it."
    )
    text = filters.CharFilter(method="containing", help_text="In the YAML without its secrets, in small or capitals.")

    class Meta:
        model = Config
        fields: tuple[str, ...] = ()

    def understanding(self, configs: Any, name: str, value: str) -> Any:
        """The configs that all terms of the query let through."""
        exact = sees_digests(self.request.user)
        return _matching(configs, value, CONFIG_WORDS, lambda rows, text: rows.containing(text, exact=exact))

    def in_state(self, configs: QuerySet[Config], name: str, value: str) -> QuerySet[Config]:
        """The configs in this state, one of CONFIG_STATES."""
        return configs.filter(CONFIG_STATES[value])

    def of_node(self, configs: QuerySet[Config], name: str, value: str) -> QuerySet[Config]:
        """The configs that are assigned to this node, and its endpoint checks."""
        return configs.filter(pk__in=of_node(value))

    def of_source(self, configs: QuerySet[Config], name: str, value: str) -> QuerySet[Config]:
        """The configs that this source sends."""
        return configs.filter(pk__in=Origin.objects.filter(source=value).values("config"))

    def of_key(self, configs: QuerySet[Config], name: str, value: str) -> QuerySet[Config]:
        """The configs whose origin has this key in its source. Origins that are not displayable are left out."""
        shown = Origin.objects.filter(displayable("config__"), shown=value)
        return configs.filter(pk__in=shown.values("config"))

    def with_check_id(self, configs: QuerySet[Config], name: str, value: str) -> QuerySet[Config]:
        """The configs with this check ID. Without the permission to see digests, only the form with a short ID is found."""
        found = Instance.objects.filter(short_id=short) if (short := short_id_in(value)) else Instance.objects.none()
        if sees_digests(self.request.user):
            found |= Instance.objects.filter(check_id=value)
        return configs.filter(pk__in=found.values("config"))

    def called(self, configs: QuerySet[Config], name: str, value: str) -> QuerySet[Config]:
        """The configs with this short ID, or with a check ID that has it."""
        return configs.filter(pk__in=Config.objects.called(value, exact=False))

    def containing(self, configs: Any, name: str, value: str) -> QuerySet[Config]:
        """The configs whose scrubbed YAML contains this text, in upper or lower case."""
        return configs.containing(value, exact=sees_digests(self.request.user))


class NodeFilter(filters.FilterSet):
    """Filters of the nodes."""

    q = filters.CharFilter(method="understanding", help_text="As in the bar above the list: state:silent domain:a.")

    state = filters.ChoiceFilter(choices=_choices(*NODE_STATES))
    type = filters.ChoiceFilter(choices=_choices(*(type_.name.lower() for type_ in NodeType)), method="of_type")
    schedulable = filters.BooleanFilter(help_text="false: cordoned or lost.", method="taking")
    prefix = filters.CharFilter(field_name="name", lookup_expr="startswith", help_text="How the name begins.")
    domain = filters.CharFilter(help_text="Its failure domain.")

    class Meta:
        model = Node
        fields: tuple[str, ...] = ()

    def understanding(self, nodes: Any, name: str, value: str) -> Any:
        """The nodes that all terms of the query let through."""
        return _matching(nodes, value, NODE_WORDS, lambda rows, text: rows.filter(name__icontains=text))

    def of_type(self, nodes: QuerySet[Node], name: str, value: str) -> QuerySet[Node]:
        """The nodes of this type."""
        return nodes.filter(heartbeat__node_type=NodeType[value.upper()])

    def taking(self, nodes: QuerySet[Node], name: str, value: bool) -> QuerySet[Node]:
        """The nodes that are neither cordoned nor lost, or the others."""
        open_ = Q(schedulable=True, heartbeat__isnull=False)
        return nodes.filter(open_ if value else ~open_)


class TimeRange(filters.FilterSet):
    """Filters by time, from `since` (included) to `until` (excluded)."""

    since = filters.IsoDateTimeFilter(field_name="time", lookup_expr="gte")
    until = filters.IsoDateTimeFilter(field_name="time", lookup_expr="lt")


class MoveFilter(TimeRange, DigestFilter):
    """Filters of the ledger."""

    config = WholeNumberFilter(field_name="config_id", help_text="The config's id.")
    check = filters.CharFilter(field_name="name", help_text="The check's name.")
    short_id = filters.CharFilter(method="of_short_id", help_text="Of the config, as it is now.")
    node = filters.CharFilter(method="of_node", help_text="From it or to it.")
    reason = filters.ChoiceFilter(choices=Move.Reason.choices)
    actor = filters.CharFilter()

    class Meta:
        model = Move
        fields: tuple[str, ...] = ()

    def of_node(self, moves: QuerySet[Move], name: str, value: str) -> QuerySet[Move]:
        """The moves from this node or to it."""
        return moves.filter(Q(source_node=value) | Q(to_node=value))

    def of_short_id(self, moves: QuerySet[Move], name: str, value: str) -> QuerySet[Move]:
        """The moves of the config that has this short ID now."""
        return moves.filter(digest__in=Config.objects.filter(short_id=value).order_by().values("digest"))


class ActFilter(TimeRange):
    """Filters of the acts."""

    person = filters.CharFilter()
    how = filters.ChoiceFilter(choices=Act.How.choices)
    verb = filters.ChoiceFilter(choices=Act.Verb.choices)
    token = filters.CharFilter(method="of_token", help_text="How the operators' token begins by which it was done.")
    object = filters.CharFilter(lookup_expr="icontains", help_text="A part of what it was done to.")
    plan = WholeNumberFilter(help_text="The id of the plan that it applied.")
    config = WholeNumberFilter(method="of_config", help_text="The config's id.")
    node = filters.CharFilter(method="of_node", help_text="The node's name.")

    class Meta:
        model = Act
        fields: tuple[str, ...] = ()

    def of_token(self, acts: Any, name: str, value: str) -> QuerySet[Act]:
        """The acts by a token."""
        return acts.by_token(value)

    def of_config(self, acts: Any, name: str, value: Any) -> QuerySet[Act]:
        """The acts on this config."""
        return acts.of_config(int(value))

    def of_node(self, acts: Any, name: str, value: str) -> QuerySet[Act]:
        """The acts on this node."""
        return acts.of_node(value)


class EventFilter(TimeRange):
    """Filters of the node events."""

    node = filters.CharFilter(field_name="node_name")
    kind = filters.ChoiceFilter(choices=NodeEvent.Kind.choices)

    class Meta:
        model = NodeEvent
        fields: tuple[str, ...] = ()


class AuthorFilter(filters.FilterSet):
    """Filters by author."""

    author = filters.CharFilter()


class FreezeFilter(AuthorFilter):
    """Filters of the freezes."""

    in_force = filters.BooleanFilter(method="holding", help_text="true: the one that holds now.")

    def holding(self, freezes: Any, name: str, value: bool) -> QuerySet[Any]:
        """The freeze that is in force now, or with value=False all others."""
        holds = freezes.in_force()
        return holds if value else freezes.exclude(pk__in=holds.values("pk"))


class OrderFilter(AuthorFilter):
    """Filters of pins, pauses and isolations."""

    config = WholeNumberFilter(field_name="config_id", help_text="The config's id.")
    check = filters.CharFilter(field_name="config__name", help_text="The check's name.")
    source = filters.CharFilter(help_text="As file, admin or api:shop.")
