"""The filters of the admin's lists."""

from collections.abc import Iterable, Mapping
from datetime import date, datetime, time
from typing import Any

from django.contrib import messages
from django.db.models import Q, QuerySet
from django.http import HttpRequest
from django.utils.dateparse import parse_date
from django.utils.timezone import make_aware
from unfold.contrib.filters.admin import DropdownFilter, RangeDateFilter, TextFilter

from checks.explain import alerts
from checks.models import Config, Origin
from checks.models.configs import KUBERNETES
from checks.models.originkeys import source_in_words
from checks.models.troubles import Trouble
from checks.sources.kubernetes.subjects import CLUSTERCHECK, SERVICE, Subject, beginnings
from checks.wire.scrub import scrub
from clusteragent.lib.database import distinct
from clusteragent.lib.words import cut, listed
from nodes.models import Node, NodeType, Runner, Slowness
from operators.queries import CONFIG_STATES, ORDERED, in_trouble, of_node

MOST_CHOICES, MOST_SHOWN = 500, 60
# The states of nodes with their colours, and the reasons why a node takes nothing new.
# A lost node is no fault in itself: others have its configs. What still needs somebody is an alert.
STATE_COLOURS = {"alive": "success", "silent": "warning", "lost": "default"}
PACE_COLOURS = {"slow": "warning", "very slow": "danger", "recovering": "info"}
CLOSED = ("draining", "cordoned", "leaving", "restarting", "flapping")


class DaysFilter(RangeDateFilter):
    """Rows from one day to another, both included."""

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        if first := self._day("from"):
            queryset = queryset.filter(**{f"{self.parameter_name}__gte": make_aware(datetime.combine(first, time.min))})
        if last := self._day("to"):
            queryset = queryset.filter(**{f"{self.parameter_name}__lte": make_aware(datetime.combine(last, time.max))})
        return queryset

    def _day(self, end: str) -> date | None:
        """The given day; None if none or no valid day was given."""
        try:
            return parse_date(self.used_parameters.get(f"{self.parameter_name}_{end}") or "")
        except ValueError:
            return None


class OptionFilter(DropdownFilter):
    """Rows by one of some options. For other values in the URL nothing is shown, and why. options: {value: label}."""

    options: Mapping[str, str]

    def condition(self, value: str) -> Q:
        """The condition of an option."""
        raise NotImplementedError

    def lookups(self, request: HttpRequest, model_admin: Any) -> Iterable[tuple[str, str]]:
        return self.options.items()

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        value = self.value()
        if not value:
            return queryset
        if value in self.options:
            return queryset.filter(self.condition(value))
        known = listed(list(self.options), None)
        messages.error(
            request, f"Nothing is shown: there is no {self.title} {cut(scrub(value), MOST_SHOWN)}, only {known}."
        )
        return queryset.none()


class OwnerFilter(OptionFilter):
    """Configs by whether a node has them."""

    title = parameter_name = "owner"
    options = {"assigned": "assigned", "dangling": "dangling", "endpoint": "endpoint check: none"}

    def condition(self, value: str) -> Q:
        return CONFIG_STATES[value]


class OrderFilter(OptionFilter):
    """Configs by their orders."""

    title = parameter_name = "order"
    options = {
        "pinned": "pinned",
        "astray": "pinned to a node that does not exist",
        "paused": "paused",
        "isolated": "isolated or quarantined",
        "none": "none of these",
    }

    def condition(self, value: str) -> Q:
        if value == "astray":
            return Q(pk__in=alerts.pins_astray().order_by().values("config"))
        pinned, paused, isolated = ORDERED.values()
        return ~(pinned | paused | isolated) if value == "none" else ORDERED[value]


class CheckFilter(DropdownFilter):
    """Configs by their check."""

    title = parameter_name = "check"

    def lookups(self, request: HttpRequest, model_admin: Any) -> Iterable[tuple[str, str]]:
        return [(name, name) for name in map(scrub, distinct.values(Config, "name", MOST_CHOICES))]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Config]) -> QuerySet[Config]:
        return queryset.filter(name=self.value()) if self.value() else queryset


class SourceFilter(DropdownFilter):
    """Configs by a source that sends them."""

    title = parameter_name = "source"

    def lookups(self, request: HttpRequest, model_admin: Any) -> Iterable[tuple[str, str]]:
        return [(name, source_in_words(name)) for name in distinct.values(Origin, "source", MOST_CHOICES)]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Config]) -> QuerySet[Config]:
        sent = Origin.objects.filter(source=self.value())
        return queryset.filter(pk__in=sent.values("config")) if self.value() else queryset


class ObjectFilter(TextFilter):
    """The configs of an object in Kubernetes, which is given as `namespace/name`."""

    def queryset(self, request: HttpRequest, queryset: QuerySet[Config]) -> QuerySet[Config]:
        namespace, _, name = (self.value() or "").partition("/")
        subject = Subject(self.parameter_name, namespace, name)
        sent = Origin.objects.filter(source=KUBERNETES).beginning_with(beginnings(subject))
        return queryset.filter(pk__in=sent.values("config")) if self.value() else queryset


class ServiceFilter(ObjectFilter):
    """The configs of a Service and of its endpoints."""

    title = parameter_name = SERVICE


class ClusterCheckFilter(ObjectFilter):
    """The configs of a ClusterCheck."""

    title = parameter_name = CLUSTERCHECK


class NodeFilter(TextFilter):
    """The configs that are assigned to a node, and its endpoint checks."""

    title = parameter_name = "node"

    def queryset(self, request: HttpRequest, queryset: QuerySet[Config]) -> QuerySet[Config]:
        return queryset.filter(pk__in=of_node(self.value())) if self.value() else queryset


class TroubleFilter(OptionFilter):
    """Configs by the trouble that runners reported in the last round of stats."""

    title = parameter_name = "trouble"
    options = dict(Trouble.Kind.choices)

    def condition(self, value: str) -> Q:
        return in_trouble(value)


class AcknowledgedFilter(OptionFilter):
    """Nodes that did not fetch the last change of their configs in time."""

    title = parameter_name = "acknowledged"
    options = {"late": "not for 30 s"}

    def condition(self, value: str) -> Q:
        return Q(pk__in=alerts.unacknowledged().order_by().values("pk"))


class StateFilter(OptionFilter):
    """Nodes by their state."""

    title = parameter_name = "state"
    options = {state: state for state in STATE_COLOURS}

    def condition(self, value: str) -> Q:
        return Q(state=value)


class StatsFilter(OptionFilter):
    """Runners whose stats can't be read."""

    title = parameter_name = "stats"
    options = {"none": "can't be read"}

    def condition(self, value: str) -> Q:
        return Q(pk__in=Runner.objects.unread().values("pk"))


class PaceFilter(OptionFilter):
    """Nodes that are slow."""

    title = parameter_name = "pace"
    options = {state: state for state in PACE_COLOURS}

    def condition(self, value: str) -> Q:
        levels = {"slow": Slowness.SLOW, "very slow": Slowness.VERY}
        level = levels.get(value)
        rows = Slowness.objects.slow().filter(level=level) if level else Slowness.objects.recovering()
        return Q(pk__in=rows.values("pk"))


class SchedulableFilter(OptionFilter):
    """Nodes by whether they take new configs, and why not."""

    title = parameter_name = "schedulable"
    options = {"yes": "yes", "no": "no"} | {why: f"no: {why}" for why in CLOSED}

    def condition(self, value: str) -> Q:
        is_open = Q(intake="open") & ~Q(state="lost")
        return {"yes": is_open, "no": ~is_open}.get(value, Q(intake=value) & ~Q(state="lost"))


class TypeFilter(OptionFilter):
    """Nodes by their type."""

    title = parameter_name = "type"
    options = {type_.name.lower(): str(type_.label) for type_ in NodeType}

    def condition(self, value: str) -> Q:
        return Q(heartbeat__node_type=NodeType[value.upper()])


class DomainFilter(DropdownFilter):
    """Nodes by their failure domain."""

    title = parameter_name = "domain"

    def lookups(self, request: HttpRequest, model_admin: Any) -> Iterable[tuple[str, str]]:
        names = Node.objects.domains()[:MOST_CHOICES]
        return [(name, name) for name in names]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        return queryset.filter(domain=self.value()) if self.value() else queryset


class AlikeFilter(OptionFilter):
    """Nodes whose names look like another's."""

    title = "name"
    parameter_name = "alike"
    options = {"yes": "looks like another's"}

    def condition(self, value: str) -> Q:
        return Q(pk__in=Node.objects.lookalikes())
