"""The resources of the operators' API."""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from threading import BoundedSemaphore
from typing import Any

from django.db.models import QuerySet
from django.http import HttpRequest
from django.shortcuts import get_object_or_404
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import mixins, status
from rest_framework.decorators import action
from rest_framework.exceptions import AuthenticationFailed, NotFound, ValidationError
from rest_framework.request import Request
from rest_framework.response import Response

from acts.models import Act
from acts.recording import record
from checks import dispatcher, plans
from checks.dispatcher import Decision, deciding
from checks.dispatcher.acting import record_refusal
from checks.explain import drains, forecasts, headroom, history, loss, ruling
from checks.explain.history import Span
from checks.models import Assignment, Config, Move, Origin, Plan, Source, freezes
from checks.models.freezes import Freeze
from checks.models.orders import Isolation, Pause, Pin, Rule
from checks.sources import sets
from clusteragent.lib import clock
from clusteragent.lib.database.numbers import number_of
from clusteragent.lib.words import plain_count
from nodes import runnercertificates
from nodes.models import Node, NodeEvent, NodeRule, UnknownNode
from operators import rules
from operators.api import desired, filters, serializers
from operators.api.authentication import OperatorToken
from operators.api.base import Busy, Conflict, DetailViewSet, ListViewSet, OperatorViewSet
from operators.api.fields import refuse_unknown
from operators.api.permissions import HasPermissions, requires
from operators.pages import now
from operators.pages.base import SEES
from operators.queries import WIDE_COLUMNS

# How many sets of more than a megabyte are read at the same time: each takes up to 0.3 GB and half a minute.
LARGE_SETS = 2
_large_sets = BoundedSemaphore(LARGE_SETS)
_SOURCE_NAME = re.compile(r"[A-Za-z0-9_.-]{1,200}")


class StatusViewSet(OperatorViewSet):
    """How the cluster is, as the admin's first page says it."""

    queryset = Config.objects.none()
    serializer_class = serializers.StatusSerializer
    pagination_class: Any = None
    permission_classes = [requires(*SEES)]

    @extend_schema(responses=serializers.StatusSerializer)
    def list(self, request: Request) -> Response:
        """The word for the cluster, the first page's sentence, and what needs somebody."""
        return Response(now.latest().document)


def _span(request: Request) -> Span:
    """How far back a history is asked for. Raises ValidationError for another one, and for other parameters."""
    refuse_unknown(request.query_params, {"span", "format"}, ["span"])
    options = serializers.HistoryOptions(data=request.query_params)
    options.is_valid(raise_exception=True)
    return Span(options.validated_data["span"])


class HistoryViewSet(OperatorViewSet):
    """How the cluster was."""

    queryset = Config.objects.none()
    serializer_class = serializers.ClusterPointSerializer
    pagination_class: Any = None
    permission_classes = [requires(*SEES)]

    @extend_schema(responses=serializers.ClusterPointSerializer(many=True), parameters=[serializers.HistoryOptions])
    def list(self, request: Request) -> Response:
        """The last hour by minutes, or the last day or week by hours. What nobody noted is left out."""
        points: Any = history.of_cluster(_span(request), clock.now())
        return Response(serializers.ClusterPointSerializer(points, many=True).data)


class ConfigViewSet(DetailViewSet):
    """Configs, and the nodes that run them."""

    own_options = {"reassign": ("dry_run",)}

    queryset = Config.objects.select_related(
        "assignment__node", "former_node", "handover__source", "handover__between", "pin", "pause", "isolation", "cost"
    ).prefetch_related("origins", "instances")
    serializer_class = serializers.ConfigSerializer
    detail_serializer_class = serializers.ConfigPageSerializer
    filterset_class = filters.ConfigFilter

    def get_queryset(self) -> QuerySet[Config]:
        return super().get_queryset().defer(*(WIDE_COLUMNS[:-1] if self.detail else WIDE_COLUMNS))

    @extend_schema(
        request=serializers.ReassignSerializer,
        responses=serializers.ConfigPageSerializer,
        parameters=[serializers.DryRun],
    )
    @action(detail=True, methods=["post"], permission_classes=[requires("checks.change_assignment")])
    def reassign(self, request: Request, pk: str) -> Response:
        """Move a config to a node, once. The next rebalance may move it away again."""
        body = serializers.ReassignSerializer(data=request.data)
        body.is_valid(raise_exception=True)
        config = self.get_object()
        node = body.validated_data["node"]
        preview = self.apply_or_preview("node", lambda: deciding.reassign([config.pk], node))
        return preview or self.retrieve(request)

    @extend_schema(
        request=None,
        responses=serializers.ConfigPointSerializer(many=True),
        parameters=[serializers.HistoryOptions],
        filters=False,
    )
    @action(detail=True, methods=["get"], pagination_class=None)
    def history(self, request: Request, pk: str) -> Response:
        """The last hour by minutes, or the last day or week by hours. What nobody noted is left out."""
        found = history.of_config(self.get_object(), _span(request), clock.now())
        points: Any = found.points
        answer = serializers.ConfigPointSerializer(points, many=True, context={"nodes": found.nodes})
        return Response(answer.data)


class NodeViewSet(DetailViewSet):
    """Node agents. Lost ones stay listed for a while."""

    own_options = {
        "accept_certificate": ("dry_run",),
        "cordon": ("dry_run", "accept_no_node"),
        "drain": ("dry_run", "accept_no_node"),
        "uncordon": ("dry_run",),
    }

    queryset = Node.objects.select_related("heartbeat", "slowness")
    serializer_class = serializers.NodeSerializer
    detail_serializer_class = serializers.NodePageSerializer
    filterset_class = filters.NodeFilter
    ordering = lookup_field = "name"
    lookup_value_regex = "[^/\x00]+"

    def get_permissions(self) -> Sequence[Any]:
        # It has the permissions of the call that drains, which it shares its address with.
        return [HasPermissions()] if self.action == "drained" else super().get_permissions()

    def get_queryset(self) -> QuerySet[Node]:
        nodes: Any = super().get_queryset()
        return nodes.with_state().annotate(configs=number_of(Assignment.objects.all(), "node"))

    @extend_schema(request=None, parameters=[serializers.DrainOptions])
    @action(detail=True, methods=["post"], permission_classes=[requires("nodes.change_node")])
    def cordon(self, request: Request, name: str) -> Response:
        """Cordon the node: it gets nothing new, and keeps what it has. 409 if no node would take work then.

        A dry run answers what would follow.
        """
        name = self.get_object().name
        self._require_others()
        told = self.forecast_or_act("name", lambda: forecasts.cordon([name]), lambda: self._cordon(schedulable=False))
        return told or self.retrieve(request)

    @extend_schema(request=None, parameters=[serializers.ForecastWish])
    @action(detail=True, methods=["post"], permission_classes=[requires("nodes.change_node")])
    def uncordon(self, request: Request, name: str) -> Response:
        """Uncordon the node: it gets configs again. A dry run answers what would follow."""
        name = self.get_object().name
        told = self.forecast_or_act("name", lambda: forecasts.uncordon([name]), lambda: self._cordon(schedulable=True))
        return told or self.retrieve(request)

    @extend_schema(request=None, parameters=[serializers.ForecastWish])
    @action(
        detail=True, methods=["post"], url_path="accept-certificate", permission_classes=[requires("nodes.change_node")]
    )
    def accept_certificate(self, request: Request, name: str) -> Response:
        """Keep the certificate that its runner shows now: it is sent the token again. 409 if it shows no other than before.

        A dry run answers which they are.
        """
        name = self.get_object().name
        try:
            offers = runnercertificates.offers_of([name])
            told = self.forecast_or_act(
                "name", lambda: forecasts.accept_certificates(offers), lambda: runnercertificates.accept(offers)
            )
        except (UnknownNode, runnercertificates.NoOffer) as refusal:
            record_refusal(f"accept the certificate of {name}", refusal)
            raise Conflict(str(refusal)) from None
        return told or self.retrieve(request)

    @extend_schema(
        request=serializers.DrainWish, responses=serializers.NodePageSerializer, parameters=[serializers.DrainOptions]
    )
    @action(detail=True, methods=["post"], permission_classes=[requires("nodes.change_node")])
    def drain(self, request: Request, name: str) -> Response:
        """Drain the node: it gets nothing new, and its configs move to other nodes bit by bit, all of them until `by`.

        409 if no node would take work then.
        """
        node = self.get_object()
        body = serializers.DrainWish(data=request.data)
        body.is_valid(raise_exception=True)
        wish = body.validated_data
        self._require_others()
        return self.apply_or_preview("name", lambda: deciding.drain([node.name], **wish)) or self.retrieve(request)

    @extend_schema(request=None, responses=serializers.DrainSerializer)
    @drain.mapping.get
    def drained(self, request: Request, name: str) -> Response:
        """How far its drain is, and whether the node is empty and may be stopped."""
        return Response(serializers.DrainSerializer(drains.of(self.get_object().name)).data)

    @extend_schema(request=None, responses=serializers.LossSerializer)
    @action(detail=True, methods=["get"], permission_classes=[requires("nodes.view_node")])
    def loss(self, request: Request, name: str) -> Response:
        """What would happen if the node were lost now: where its configs would go, and why some would find no node."""
        return Response(serializers.LossSerializer(loss.of([self.get_object().name])).data)

    @extend_schema(
        request=None,
        responses=serializers.NodePointSerializer(many=True),
        parameters=[serializers.HistoryOptions],
        filters=False,
    )
    @action(detail=True, methods=["get"], pagination_class=None)
    def history(self, request: Request, name: str) -> Response:
        """The last hour by minutes, or the last day or week by hours. What nobody noted, and when it was lost, is left out."""
        points: Any = history.of_node(self.get_object(), _span(request), clock.now())
        return Response(serializers.NodePointSerializer(points, many=True).data)

    def _require_others(self) -> None:
        """Raise Conflict, on record, if no node would take work once this one is closed, unless the call accepts that."""
        options = serializers.DrainOptions(data=self.request.query_params)
        options.is_valid(raise_exception=True)
        if options.validated_data["dry_run"] or options.validated_data["accept_no_node"]:
            return
        name = self.get_object().name
        if closing := forecasts.closing([name]):
            record(Act.Verb.REFUSE, f"{self.action} {name}", reason=closing, nodes=[name])
            raise Conflict(f"{closing} {serializers.ACCEPT_NO_NODE}")

    def _cordon(self, *, schedulable: bool) -> None:
        node = Node.objects.filter(pk=self.get_object().pk)
        node.cordon(schedulable=schedulable, actor=self.request.user.get_username())


class DomainViewSet(OperatorViewSet):
    """Failure domains, the one whose loss would be the worst first."""

    queryset = Node.objects.none()
    serializer_class = serializers.DomainSerializer
    pagination_class: Any = None
    lookup_field = "name"
    lookup_value_regex = "[^/\x00]+"

    @extend_schema(responses=serializers.DomainSerializer(many=True))
    def list(self, request: Request) -> Response:
        """All domains, with what the others would do if each were lost. Empty while all nodes are in one, or in none."""
        domains: Any = [one for one in headroom.noted() if one.domain]
        return Response(serializers.DomainSerializer(domains, many=True).data)

    @extend_schema(request=None, responses=serializers.LossSerializer)
    @action(detail=True, methods=["get"])
    def loss(self, request: Request, name: str) -> Response:
        """What would happen if all nodes of the domain were lost now."""
        names = list(Node.objects.in_domain(name).values_list("name", flat=True))
        if not names:
            raise NotFound(f"No node is in the domain {name}.")
        return Response(serializers.LossSerializer(loss.of(names)).data)


class MoveViewSet(ListViewSet):
    """The ledger: every change of a config's owner, the last one first."""

    queryset = Move.objects.all()
    serializer_class = serializers.MoveSerializer
    filterset_class = filters.MoveFilter
    ordering = "-id"


class ActViewSet(DetailViewSet):
    """Acts: what people did, by whichever entrance, the last one first. Each alone has what was before and after."""

    queryset = Act.objects.all()
    serializer_class = serializers.ActSerializer
    detail_serializer_class = serializers.ActPageSerializer
    filterset_class = filters.ActFilter
    ordering = "-id"

    def get_queryset(self) -> QuerySet[Act]:
        acts = super().get_queryset()
        return acts if self.detail else acts.defer("before", "after", "about")


class EventViewSet(ListViewSet):
    """Node events: what happened to nodes, the last one first."""

    queryset = NodeEvent.objects.all()
    serializer_class = serializers.EventSerializer
    filterset_class = filters.EventFilter
    ordering = "-id"


class SourceViewSet(DetailViewSet):
    """Sources that pipelines own, each by the name after `api:`. `configs?source=api:…` lists the configs of one."""

    queryset = Source.objects.filter(name__startswith=sets.PREFIX)
    serializer_class = serializers.SourceSerializer
    detail_serializer_class = serializers.SourcePageSerializer
    ordering = lookup_field = "name"
    lookup_value_regex = "[^/\x00]+"
    # Enough for MOST_CONFIGS configs of 1.5 kB each.
    most_bytes = 32 * 1024 * 1024
    write_options = ("dry_run", "accept_removals")

    @classmethod
    def may_send_much(cls, request: HttpRequest) -> bool:
        """Whether the call's token belongs to a user who may write configs. It is checked before a large body is read."""
        try:
            found = OperatorToken().authenticate(Request(request))
        except AuthenticationFailed:
            return False
        return found is not None and found[0].has_perms(sets.WRITES)

    def get_queryset(self) -> QuerySet[Source]:
        return super().get_queryset().annotate(configs=number_of(Origin.objects.all(), "source", of="name"))

    def get_permissions(self) -> Sequence[Any]:
        if self.action == "update":
            return [requires(*sets.WRITES)()]
        return super().get_permissions()

    def get_object(self) -> Source:
        return get_object_or_404(self.get_queryset(), name=sets.PREFIX + self.kwargs["name"])

    def retrieve(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        response = super().retrieve(request, *args, **kwargs)
        response["ETag"] = f'"{response.data["revision"]}"'
        return response

    @extend_schema(
        request=desired.DesiredSet,
        responses=serializers.DifferenceSerializer,
        parameters=[
            desired.PutOptions,
            OpenApiParameter("If-Match", str, "header", description="Instead of revision."),
        ],
    )
    def update(self, request: Request, name: str) -> Response:
        """Replace the whole set of the source. Either all of it is stored or nothing. A new name creates a new source."""
        if not _SOURCE_NAME.fullmatch(name):
            raise ValidationError({"name": ["1 to 200 letters, digits, underscores, dots and hyphens."]})
        options = desired.PutOptions(data=request.query_params)
        options.is_valid(raise_exception=True)
        source, accept = sets.PREFIX + name, options.validated_data["accept_removals"]
        sets.require(source)
        with _place_for_large_set(request):
            body = desired.DesiredSet(data=request.data, context={"source": source})
            body.is_valid(raise_exception=True)
            configs = body.validated_data["configs"]
            # A proxy that compresses bodies turns the tag into a weak one.
            tag = request.headers.get("If-Match", "").removeprefix("W/").strip('"')
            revision = body.validated_data.get("revision") or tag
            try:
                if options.validated_data["dry_run"]:
                    difference = sets.compare(source, configs, revision=revision, accept_removals=accept)
                else:
                    actor = request.user.get_username()
                    difference = sets.replace(source, configs, actor=actor, revision=revision, accept_removals=accept)
            except sets.Outdated as error:
                raise Conflict({"revision": [str(error)]}) from None
            except sets.RemovalsHeld as error:
                raise Conflict({"configs": [f"{error} Send it with ?accept_removals=1 if that is meant."]}) from None
        answer = serializers.DifferenceSerializer(difference, context=options.validated_data)
        return Response(answer.data, headers={"ETag": f'"{difference.revision}"'})


@contextmanager
def _place_for_large_set(request: Request) -> Iterator[None]:
    """Hold a place among the LARGE_SETS that may be read at the same time. Raises Busy if none is free. Small sets need none."""
    if int(request.META.get("CONTENT_LENGTH") or 0) <= OperatorViewSet.most_bytes:
        yield
    elif _large_sets.acquire(blocking=False):
        try:
            yield
        finally:
            _large_sets.release()
    else:
        raise Busy(f"{LARGE_SETS} other large sets are being read. Try again.")


class OrderViewSet(DetailViewSet):
    """Orders of one kind. A new order replaces the one that the config had. Nothing that a source sends undoes an order.

    give(config ids, …): decides to give them the order.
    """

    filterset_class = filters.OrderFilter
    own_options: Mapping[str, Sequence[str]] = {"create": ("dry_run",), "destroy": ("dry_run",)}
    give: Callable[..., Decision]

    def take(self, ids: Sequence[int]) -> Response | None:
        """Take the order back from these configs. Returns a response only to a dry run."""
        raise NotImplementedError

    @extend_schema(parameters=[serializers.DryRun])
    def create(self, request: Request) -> Response:
        """Give the order to all of these configs, or to none if one of them refuses it."""
        body = self.get_serializer(data=request.data)
        body.is_valid(raise_exception=True)
        ids = body.validated_data.pop("configs")
        if preview := self.apply_or_preview("configs", lambda: self.give(ids, **body.validated_data)):
            return preview
        given = self.get_queryset().filter(config__in=ids).order_by("pk")
        return Response(self.get_serializer(given, many=True).data, status=status.HTTP_201_CREATED)

    @extend_schema(parameters=[serializers.ForecastWish])
    def destroy(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        """Take the order back. A dry run answers what would follow."""
        order = self.get_object()
        if preview := self.take([order.config_id] if order.config_id else []):
            return preview
        if order.config_id is None:
            dispatcher.forget_waiting([order])  # an order without a config only waits for its origin
        return Response(status=status.HTTP_204_NO_CONTENT)


class PinViewSet(OrderViewSet):
    """Pins: the node where a config shall run, by name, by name pattern or by label."""

    queryset = Pin.objects.select_related("config")
    serializer_class = serializers.PinSerializer
    give = staticmethod(deciding.pin)

    def take(self, ids: Sequence[int]) -> Response | None:
        return self.forecast_or_act("config", lambda: forecasts.unpin(ids), lambda: dispatcher.unpin(ids))


class PauseViewSet(OrderViewSet):
    """Pauses: configs that run nowhere for a time."""

    queryset = Pause.objects.select_related("config")
    serializer_class = serializers.PauseSerializer
    give = staticmethod(deciding.pause)

    @extend_schema(parameters=[serializers.DryRun])
    def destroy(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        """End the pause. The config is placed again; without an eligible node it dangles."""
        return super().destroy(request, *args, **kwargs)

    def take(self, ids: Sequence[int]) -> Response | None:
        return self.apply_or_preview("config", lambda: deciding.resume(ids))


class IsolationViewSet(OrderViewSet):
    """Isolations: configs that run alone on their nodes."""

    queryset = Isolation.objects.select_related("config")
    serializer_class = serializers.IsolationSerializer
    give = staticmethod(deciding.isolate)

    def take(self, ids: Sequence[int]) -> Response | None:
        return self.forecast_or_act("config", lambda: forecasts.release(ids), lambda: dispatcher.release(ids))


class RuleViewSet(mixins.CreateModelMixin, mixins.UpdateModelMixin, mixins.DestroyModelMixin, DetailViewSet):
    """Rules about configs: which nodes may run which checks, and how many configs of a check each node may have.

    The author of a rule is whoever wrote it last.
    """

    queryset: Any = Rule.objects.all()
    serializer_class: Any = serializers.RuleSerializer
    filterset_class = filters.AuthorFilter
    write_options = ("dry_run", "accept_dangling", "accept_no_node")

    @extend_schema(parameters=[serializers.RuleOptions])
    def create(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        """Write a new rule. A dry run answers what follows; so does 409, if configs that run would dangle or no node has room."""
        body = self.get_serializer(data=request.data)
        body.is_valid(raise_exception=True)
        rule = self.queryset.model(**body.validated_data)
        return self._previewed(rule, saved=rule) or super().create(request, *args, **kwargs)

    @extend_schema(parameters=[serializers.RuleOptions])
    def update(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        """Replace a rule. A dry run answers what follows; so does 409, if configs that run would dangle or no node has room."""
        rule = self.get_object()
        body = self.get_serializer(rule, data=request.data)
        body.is_valid(raise_exception=True)
        for name, value in body.validated_data.items():
            setattr(rule, name, value)
        return self._previewed(rule, saved=rule) or super().update(request, *args, **kwargs)

    @extend_schema(parameters=[serializers.RuleOptions])
    def destroy(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        """Delete a rule. A dry run answers what follows; so does 409, if configs that run would dangle or no node has room."""
        rule = self.get_object()
        return self._previewed(rule, deleted=[rule.pk]) or super().destroy(request, *args, **kwargs)

    def perform_create(self, serializer: Any) -> None:
        author = self.request.user.get_username()
        rule = serializer.instance or self.queryset.model(**serializer.validated_data)
        rules.save(rule, lambda: serializer.save(author=author))

    perform_update = perform_create

    def perform_destroy(self, instance: Any) -> None:
        rules.delete([instance])

    def _previewed(self, rule: Any, **change: Any) -> Response | None:
        """The answer to a dry run, or to a change that would leave configs without a node unasked, which is on record; None for
        others.
        """
        options = serializers.RuleOptions(data=self.request.query_params)
        options.is_valid(raise_exception=True)
        is_dry = options.validated_data["dry_run"]
        accepts_lost, accepts_full = (options.validated_data[name] for name in ("accept_dangling", "accept_no_node"))
        if not is_dry and accepts_lost and (accepts_full or self.queryset.model is Rule):
            return None
        effect = ruling.effect_of(self.queryset.model, **change)
        told = serializers.EffectSerializer(effect).data
        if is_dry:
            return Response(told)
        problems = []
        if effect.after.lost and not accepts_lost:
            many = plain_count(len(effect.after.lost), "config")
            problems.append((f"{many} would run nowhere", "Send it with ?accept_dangling=1 if that is meant."))
        if effect.fills and not accepts_full:
            problems.append((ruling.FILLS.rstrip("."), serializers.ACCEPT_NO_NODE))
        if not problems:
            return None
        record(
            Act.Verb.REFUSE, f"{rule._meta.verbose_name} {rule}", reason=". ".join(problem for problem, _ in problems)
        )
        detail = " ".join(f"{problem}. {way_out}" for problem, way_out in problems)
        return Response({"detail": detail, **told}, status=status.HTTP_409_CONFLICT)


class NodeRuleViewSet(RuleViewSet):
    """Rules about nodes: their labels, weight and limit, by name, address and type. A later rule overrides an earlier one."""

    queryset = NodeRule.objects.all()
    serializer_class = serializers.NodeRuleSerializer


class FreezeViewSet(mixins.CreateModelMixin, mixins.DestroyModelMixin, DetailViewSet):
    """Freezes: times in which nothing is balanced automatically, the last one first. At most one is in force."""

    queryset = Freeze.objects.all()
    serializer_class = serializers.FreezeSerializer
    filterset_class = filters.FreezeFilter
    ordering = "-id"
    own_options = {"create": ("dry_run",), "destroy": ("dry_run",)}

    @extend_schema(parameters=[serializers.ForecastWish])
    def create(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        """Start a freeze. It replaces the one that is in force. A dry run answers what it stops."""
        body = self.get_serializer(data=request.data)
        body.is_valid(raise_exception=True)
        told = self.forecast_or_act("detail", forecasts.freeze, lambda: self.perform_create(body))
        return told or Response(body.data, status=status.HTTP_201_CREATED)

    @extend_schema(parameters=[serializers.ForecastWish])
    def destroy(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        """End the freeze; it stays listed. A dry run answers what would follow."""
        freeze = self.get_object()
        self._require_in_force(freeze)
        told = self.forecast_or_act("detail", forecasts.thaw, lambda: self.perform_destroy(freeze))
        return told or Response(status=status.HTTP_204_NO_CONTENT)

    def perform_create(self, serializer: Any) -> None:
        """Start a freeze. It replaces the one that is in force."""
        actor = self.request.user.get_username()
        serializer.instance = freezes.freeze(actor=actor, **serializer.validated_data)

    def perform_destroy(self, instance: Freeze) -> None:
        """End the freeze; it stays listed."""
        freezes.thaw(actor=self.request.user.get_username())

    def _require_in_force(self, instance: Freeze) -> None:
        """Raise Conflict when it is over already."""
        if not Freeze.objects.in_force().filter(pk=instance.pk).exists():
            record(Act.Verb.REFUSE, f"end {instance}", reason="it is over already")
            raise Conflict({"detail": "It is over already."})


class AppliesPlan(HasPermissions):
    """Admits those who may see a plan and order what it orders."""

    def needed(self, request: Request, view: Any) -> Iterator[str]:
        yield "checks.view_plan"
        yield from plans.needed(view.get_object())


class PlanViewSet(DetailViewSet):
    """Plans: moves that were worked out, whether applied or not, the last plan first."""

    queryset = Plan.objects.all()
    serializer_class = serializers.PlanSerializer
    detail_serializer_class = serializers.PlanPageSerializer
    filterset_class = filters.AuthorFilter
    ordering = "-id"

    @extend_schema(request=serializers.PlanWish, responses={201: serializers.PlanPageSerializer})
    def create(self, request: Request) -> Response:
        """Work out what a rebalance would move, and move nothing. A plan without moves is not stored: it has no id."""
        body = serializers.PlanWish(data=request.data)
        body.is_valid(raise_exception=True)
        plan = plans.make(actor=request.user.get_username(), **body.validated_data)
        return Response(self.described(plan), status=status.HTTP_201_CREATED)

    @extend_schema(request=None)
    @action(detail=True, methods=["post"], permission_classes=[AppliesPlan])
    def apply(self, request: Request, pk: str) -> Response:
        """Apply the plan, once, with the permissions of what it orders. If something that it names has changed, nothing moves and
        the answer is 409.
        """
        plan = self.get_object()
        try:
            plans.apply(plan, actor=request.user.get_username())
        except plans.StalePlan as stale:
            raise Conflict({"moves": [str(stale)]}) from None
        return self.retrieve(request)
