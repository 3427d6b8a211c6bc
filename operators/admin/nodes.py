"""Nodes and node events in the admin."""

from collections.abc import Collection
from typing import Any

from django.contrib import admin, messages
from django.db.models import Case, Exists, F, OuterRef, QuerySet, When
from django.db.models.functions import Now
from django.http import HttpRequest, HttpResponse
from django.utils.safestring import SafeString
from unfold.contrib.filters.admin import ChoicesDropdownFilter
from unfold.decorators import display
from unfold.views import ChangeList

from acts.models import Act
from acts.recording import record
from checks import dispatcher
from checks.dispatcher import REFUSALS, costs, deciding
from checks.dispatcher.acting import record_refusal
from checks.explain import alerts, drains, forecasts
from checks.models import Config
from checks.models.troubles import Trouble
from checks.wire.scrub import scrub
from clusteragent.lib import conf
from clusteragent.lib.database.natural import Natural
from clusteragent.lib.words import grouped_count, listed, plain_count
from nodes import runnercertificates
from nodes.declarations import parse
from nodes.models import Node, NodeEvent, Runner, Slowness, UnknownNode
from nodes.models.nodes import named_domain
from operators import charts, documentation
from operators.admin import acts, nodepage, sameness
from operators.admin.base import (
    ReadOnlyAdmin,
    Table,
    aged,
    anchor,
    command,
    dated,
    elsewhere,
    example,
    list_url,
    time_column,
)
from operators.admin.changelists import UncountedChangeList
from operators.admin.configlists import NodeConfigs
from operators.admin.filters import (
    CLOSED,
    PACE_COLOURS,
    STATE_COLOURS,
    AcknowledgedFilter,
    AlikeFilter,
    DaysFilter,
    DomainFilter,
    PaceFilter,
    SchedulableFilter,
    StateFilter,
    StatsFilter,
    TypeFilter,
)  # fmt: skip
from operators.admin.labels import labels_column
from operators.admin.plans import show_plan
from operators.admin.questions import Question, only, seen_of, word_of
from operators.queries import NODE_WORDS


class NodeList(UncountedChangeList):
    """The list, whose nodes have `load`: their load, None for a lost node, and `is_assumed`: whether that is a guess."""

    root_queryset: Any

    def get_queryset(self, request: HttpRequest, *args: Any, **kwargs: Any) -> QuerySet[Any]:
        if "load" in self.sorting_columns:
            self.root_queryset = self.root_queryset.sortable_by_load(costs.loads())
        return super().get_queryset(request, *args, **kwargs)

    def get_results(self, request: HttpRequest) -> None:
        super().get_results(request)
        # Those of the page alone: to sum up all takes longer than the page.
        loads, assumed = costs.told_of([node.pk for node in self.result_list])
        for node in self.result_list:
            node.load, node.is_assumed = loads.get(node.pk), node.pk in assumed
        lost = [node.name for node in self.result_list if node.state == "lost"]
        last = nodepage.last_reports(lost) if lost else {}
        for node in self.result_list:
            node.last = last.get(node.name)


@admin.register(Node)
class NodeAdmin(ReadOnlyAdmin):
    """The nodes, with their state, configs and load."""

    empty = "A node agent is listed with its first heartbeat."
    list_display = (
        "called", "shown_state", "load", "failing", "configs", "heard", "shown_type", "address", "up_to_date",
        "shown_schedulable",
    )  # fmt: skip
    at_times = ("shown_drain", "pace", "shown_domain", "looks_like")
    greatest_first = ("load", "failing", "configs")
    list_filter = (
        StateFilter, SchedulableFilter, PaceFilter, TypeFilter, DomainFilter, AlikeFilter, AcknowledgedFilter,
        StatsFilter,
    )  # fmt: skip
    search_fields = ("name",)
    search_help_text = "team:payments state:silent domain:zone-a, or a part of the name"
    words = NODE_WORDS
    ordering = (Natural("name"),)
    # The head of the page shows the rest.
    fields = readonly_fields = (
        "shown_declared", "shown_labels", "weight", "max_configs", "config_version", "joined"
    )  # fmt: skip
    actions = ("cordon", "uncordon", "drain", "accept_certificate", "forget")
    joined, shown_labels = time_column("first_seen", dated), labels_column("labels")
    change_form_outer_before_template = "operators/node_head.html"
    change_form_outer_after_template = "operators/node_foot.html"
    list_before_template = "operators/no_nodes.html"

    class Media:
        css = {"all": ["operators/pages.css"]}

    def get_queryset(self, request: HttpRequest) -> QuerySet[Node]:
        late = alerts.unacknowledged().filter(pk=OuterRef("pk"))
        nodes = Node.objects.with_state().select_related("heartbeat", "slowness")
        found: QuerySet[Node] = drains.counted(nodes).annotate(
            is_late=Exists(late), failing=Trouble.objects.failing_on(), now=Now()
        )
        return found

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ChangeList]:
        return NodeList

    def with_text(self, request: HttpRequest, rows: Any, text: str) -> QuerySet[Any]:
        found: QuerySet[Any] = rows.filter(name__icontains=text)
        return found

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> Any:
        """The list; of the nodes of one domain also what its loss would do."""
        name = request.GET.get("domain", "")
        domain = {"name": name, "named": named_domain(name)} if Node.objects.in_domain(name).exists() else None
        attach = documentation.page("howto/runners")
        return super().changelist_view(request, {**(extra_context or {}), "domain": domain, "attach_url": attach})

    def get_list_display(self, request: HttpRequest) -> Any:
        """The columns, with more while nodes are drained or slow, while they have failure domains, and while names look alike."""
        columns = super().get_list_display(request)
        if Node.objects.known().filter(draining=True).exists():
            columns = (*columns, "shown_drain")
        if (Slowness.objects.slow() | Slowness.objects.recovering()).exists():
            columns = (*columns, "pace")
        if Node.objects.domains().exists():
            columns = (*columns, "shown_domain")
        return (*columns, "looks_like") if Node.objects.lookalikes().exists() else columns

    @display(description="name", ordering=Natural("name"))
    def called(self, node: Node) -> str:
        """Its name."""
        return node.name

    @display(description="domain", ordering=Natural("domain"))
    def shown_domain(self, node: Any) -> str:
        """Its failure domain; empty for a node without one."""
        return str(node.domain)

    @display(description="pace", label=PACE_COLOURS, ordering=F("slowness__level").asc(nulls_first=True))
    def pace(self, node: Any) -> str:
        """Whether it is slow; empty if not."""
        return node.slowness.state if hasattr(node, "slowness") and node.state != "lost" else ""

    # Beside each other, below each other, and before the others.
    @display(description="looks like", ordering=Case(When(pk__in=Node.objects.lookalikes(), then="likeness")))
    def looks_like(self, node: Node) -> str:
        """The names of living nodes that a reader could take for this one."""
        return node.looks_like()

    @display(description="state", label=STATE_COLOURS, ordering="state")
    def shown_state(self, node: Any) -> str:
        """The state: alive, silent or lost."""
        return str(node.state)

    @display(ordering=F("load").asc(nulls_first=True))
    def load(self, node: Any) -> SafeString | str:
        """What its configs need of its workers, linked to them, the greatest load first; empty for a lost node."""
        return "" if node.load is None else nodepage.told_load(node)

    @display(ordering="failing")
    def failing(self, node: Any) -> SafeString | str:
        """How many of its configs fail, linked to them; empty if none does."""
        return anchor(list_url(Config, node=node.name, trouble="failing"), node.failing) if node.failing else ""

    @display(ordering="configs")
    def configs(self, node: Any) -> SafeString:
        """The number of its configs, linked to them."""
        return anchor(list_url(Config, node=node.name), node.configs)

    @display(description="last heard", ordering="silence")
    def heard(self, node: Any) -> SafeString | str:
        """How long ago its last heartbeat came; empty for a lost node of which that was not noted."""
        if node.state == "lost":
            return aged(node.last.heard_at, node.now) if node.last else ""
        return aged(node.heartbeat.seen_at, node.now)

    @display(description="type", ordering="heartbeat__node_type")
    def shown_type(self, node: Any) -> str:
        """Its type; of a lost node the last one, empty if that was not noted."""
        return nodepage.last_type(node.last) if node.state == "lost" else str(node.heartbeat.get_node_type_display())

    @display(description="address", ordering="heartbeat__client_ip")
    def address(self, node: Any) -> str:
        """Its address, of a lost node the last one; empty if unknown."""
        if node.state == "lost":
            return node.last.address or "" if node.last else ""
        return node.heartbeat.client_ip or ""

    @display(description="drain", ordering=Case(When(draining=True, then="configs")))
    def shown_drain(self, node: Any) -> str:
        """How much its drain has left, and its deadline, or that it may be stopped; empty without a drain."""
        if not node.draining or node.state == "lost":
            return ""
        left = drains.left_on(node)
        has_fetched = node.heartbeat.acknowledged == node.config_version
        return "empty: safe to stop" if not left.configs and has_fetched else str(left)

    @display(
        description="up to date",
        label={"yes": "success", "late": "danger", "fetching": "info"},
        # By how far it is behind.
        ordering=F("config_version") - F("heartbeat__acknowledged"),
    )
    def up_to_date(self, node: Any) -> str:
        """Whether it acknowledged its latest configs: `fetching` while it has time to; empty for a lost node."""
        if node.state == "lost":
            return ""
        return "yes" if node.heartbeat.acknowledged == node.config_version else "late" if node.is_late else "fetching"

    @display(
        description="schedulable",
        ordering="intake",
        label={"yes": "success"} | dict.fromkeys((*CLOSED, "lost"), "warning"),
    )
    def shown_schedulable(self, node: Any) -> str:
        """`yes`, or why it takes nothing new."""
        if node.state == "lost":
            return "lost"
        return "yes" if node.intake == "open" else str(node.intake)

    @display(description="declares")
    def shown_declared(self, node: Node) -> str:
        """What it declares that it may run."""
        return str(parse(node.declared)) or "nothing: it may run everything"

    def get_actions(self, request: HttpRequest) -> Any:
        """The list's actions. Certificates are accepted where they are pinned."""
        found = super().get_actions(request)
        if not conf.RUNNER_CERTIFICATES_PINNED:
            found.pop("accept_certificate", None)
        return found

    def row_actions(self, request: HttpRequest, node: Any) -> list[str]:
        offered = {
            "cordon": node.schedulable,
            "drain": not node.draining,
            "uncordon": node.intake in ("draining", "cordoned", "leaving", "restarting"),
            "accept_certificate": Runner.objects.showing_another().filter(node=node).exists(),
        }
        return ["forget"] if node.state == "lost" else [name for name, is_offered in offered.items() if is_offered]

    def page_context(self, request: HttpRequest, node: Any) -> dict[str, Any]:
        call = example(request, "operators:node-detail", node.name)
        asked = [("command", command("whatif", "--remove", node.name))] if node.state != "lost" else []
        return nodepage.context(node) | {
            "needs": nodepage.needs(request, node),
            "configs": NodeConfigs(request, node.name),
            "history": charts.of_node(request, node),
            "elsewhere": elsewhere(request, node, call, ("name", node.name), *asked),
        }

    def tables(self, request: HttpRequest, node: Node) -> list[Table]:
        acted = acts.tables(request.user, Act.objects.of_node(node.name), node=node.name)
        return [nodepage.timeline(node), *acted]

    @admin.action(description="Cordon: give it nothing new…", permissions=["change"])
    def cordon(self, request: HttpRequest, queryset: QuerySet[Node]) -> HttpResponse | None:
        """Show what follows, ask why, then cordon the nodes: they keep what they have, and nothing moves.

        Its name must be typed where no node would be left that takes work; of several, how many they are.
        """
        names = sorted(node.name for node in queryset)
        told = forecasts.cordon(names)
        ended = [f"the drain of {node.name}" for node in queryset if node.draining]
        question = Question(
            told.what,
            told.sentences,
            [one.reason for one in told.objections],
            seen=seen_of([*names, *ended, *_last_intakes(names)], len(told.objections)),
            word=word_of(names, "node") if told.objections else "",
            button="Cordon",
            asks_why=True,
            same=sameness.of_nodes(names, "node-cordon"),
            nodes=names,
        )
        if page := question.unanswered(request, list_url(Node), only(queryset, Node)):
            return page
        actor, note, may_close = request.user.get_username(), request.POST.get("note", ""), bool(told.objections)
        try:
            changed = dispatcher.cordon(names, actor=actor, note=note, may_close=may_close)
        except dispatcher.StalePlan as stale:
            record_refusal(told.what, stale)
            messages.error(request, f"Not cordoned, since something changed: {stale}.")
            return None
        messages.success(request, f"{plain_count(changed, 'node')} cordoned.")
        return None

    @admin.action(description="Uncordon: give it work again…", permissions=["change"])
    def uncordon(self, request: HttpRequest, queryset: QuerySet[Node]) -> HttpResponse | None:
        """Show what follows, then uncordon the nodes: they get configs again."""
        names = [node.name for node in queryset]
        try:
            question = Question.of(
                lambda: forecasts.uncordon(names),
                "Uncordon",
                [*names, *_last_intakes(names)],
                sameness.of_nodes(names, "node-uncordon", "drain", "--undo"),
            )
        except REFUSALS as refusal:
            messages.error(request, f"Not uncordoned: {scrub(str(refusal))}.")
            return None
        if page := question.unanswered(request, list_url(Node), only(queryset, Node)):
            return page
        changed = Node.objects.filter(name__in=names).cordon(schedulable=True, actor=request.user.get_username())
        messages.success(request, f"{plain_count(changed, 'node')} uncordoned.")
        return None

    @admin.action(description="Drain: cordon it, and let what it has move away…", permissions=["change"])
    def drain(self, request: HttpRequest, queryset: QuerySet[Node]) -> HttpResponse | None:
        """Make the plan that drains the nodes. It shows where their configs would go."""
        return show_plan(request, lambda: deciding.drain([node.name for node in queryset]), "Not drained")

    @admin.action(description="Accept certificate: that which its runner shows now…", permissions=["change"])
    def accept_certificate(self, request: HttpRequest, queryset: QuerySet[Node]) -> HttpResponse | None:
        """Show the certificates, then keep those that the nodes' runners show now. Without any it is refused, on record."""
        names = [node.name for node in queryset]
        try:
            offers = runnercertificates.offers_of(names)
            same = sameness.of_nodes(names, "node-accept-certificate", "acceptcertificate")
            question = Question.of(lambda: forecasts.accept_certificates(offers), "Accept", offers, same)
            if page := question.unanswered(request, list_url(Node), only(queryset, Node)):
                return page
            accepted = runnercertificates.accept(offers)
        except (UnknownNode, runnercertificates.NoOffer) as refusal:
            record_refusal(f"accept the certificate of {listed(sorted(names))}", refusal)
            messages.error(request, f"Not accepted: {refusal}.")
            return None
        messages.success(request, f"{grouped_count(len(accepted), 'certificate')} accepted.")
        return None

    @admin.action(description="Forget: take a lost node off the list…", permissions=["change"])
    def forget(self, request: HttpRequest, queryset: QuerySet[Node]) -> HttpResponse | None:
        """Show what is lost with them, then delete lost nodes. Nodes that are not lost are refused, on record."""
        chosen = Node.objects.filter(pk__in=[node.pk for node in queryset])
        lost, kept = (sorted(some.values_list("name", flat=True)) for some in (chosen.lost(), chosen.known()))
        if lost and (
            page := Question.of(lambda: forecasts.forget(lost), "Forget", lost).unanswered(
                request, list_url(Node), only(queryset, Node)
            )
        ):
            return page
        if lost:
            # Before: it takes several transactions.
            record(Act.Verb.FORGET, listed(lost), nodes=lost)
        # Only those that were asked about: another may have been lost since.
        if forgotten := Node.objects.filter(name__in=lost).forget():
            messages.success(request, f"{grouped_count(forgotten, 'node')} forgotten.")
        if kept:
            record(Act.Verb.REFUSE, f"forget {listed(kept)}", reason="not lost", nodes=kept)
            messages.error(request, f"{grouped_count(len(kept), 'node')} not lost, so not forgotten.")
        return None


def _last_intakes(names: Collection[str]) -> list[tuple[str, int]]:
    """The last events by which these nodes were closed or opened: after a colleague's newer one it is another question."""
    kinds = NodeEvent.Kind
    events = NodeEvent.objects.filter(node_name__in=names, kind__in=(kinds.CORDONED, kinds.DRAINING, kinds.UNCORDONED))
    return list(events.order_by("node_name", "-id").distinct("node_name").values_list("node_name", "pk"))


@admin.register(NodeEvent)
class NodeEventAdmin(ReadOnlyAdmin):
    """The node events, the last one first."""

    empty = "What happens to nodes is a line here: that they join, fall silent, leave, are cordoned or drained."
    list_display = fields = readonly_fields = ("when", "node_name", "kind", "shown_cause")
    is_endless = True
    indexed = ("when", "node_name")
    list_filter = (("kind", ChoicesDropdownFilter), ("time", DaysFilter))
    linked = ("node_name",)
    when = time_column("time", dated)
    search_help_text = "Name of a node"
    search_fields = ("node_name",)

    @display(description="cause", ordering="cause")
    def shown_cause(self, event: NodeEvent) -> str:
        """The cause in words."""
        return event.told
