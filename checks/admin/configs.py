"""The configs, as operators see them. Whatever moves one is a verb of the dispatcher."""

from collections.abc import Sequence
from typing import Any

from django.contrib import admin, messages
from django.core.exceptions import SuspiciousOperation
from django.db.models import Count, QuerySet
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.utils.html import format_html_join
from django.utils.safestring import SafeString
from django.utils.text import smart_split, unescape_string_literal
from unfold.decorators import display

from checks import dispatcher, sending, sharding
from checks.admin.ledger import MOVE_HEADERS, move_rows
from checks.filters import CheckFilter, NodeFilter, OwnerFilter, SourceFilter, TroubleFilter
from checks.forms import ADMIN, ConfigForm, ReassignForm, by_hand
from checks.models import Config, Move, Origin
from checks.scrub import scrub
from clusteragent.lib.admin import TABLE_ROWS, ReadOnlyAdmin, Table, link, list_url, moment, numbered, preformatted
from nodes.models import Node
from nodes.querysets import UnknownNode

MOST_NODES = 500
MOST_SELECTED = 1000
# Never read for a list.
WIDE = ("original", "wire", "scrubbed", "text")
MOST_IDS = 100
DANGLING = SafeString('<span class="font-semibold text-orange-700 dark:text-orange-400">none: dangling</span>')


@admin.register(Config)
class ConfigAdmin(ReadOnlyAdmin):
    form = ConfigForm
    list_display = ("name", "owner", "since", "dangling_since", "origins", "digest")
    list_filter = (OwnerFilter, TroubleFilter, CheckFilter, SourceFilter, NodeFilter)
    search_fields = ("text",)
    search_help_text = "Words of the YAML, a digest or a check ID"
    sortable_by = ("name",)
    readonly_fields = (
        "name", "digest", "owner", "since", "reason", "dangling_since", "former_node", "node_name", "origins", "check_ids",
        "created", "changed", "yaml_scrubbed",
    )  # fmt: skip
    actions = ("reassign", "unschedule")

    def get_queryset(self, request: HttpRequest) -> QuerySet[Config]:
        found = Config.objects.select_related("assignment__node", "former_node").prefetch_related("origins")
        return found.defer(*WIDE)

    def get_search_results(self, request: HttpRequest, queryset: Any, search_term: str) -> tuple[QuerySet[Any], bool]:
        for word in smart_split(search_term):
            quoted = word[0] in "\"'" and word[0] == word[-1] and len(word) > 1
            queryset = queryset.containing(unescape_string_literal(word) if quoted else word)
        return queryset, False

    def has_add_permission(self, request: HttpRequest) -> bool:
        return admin.ModelAdmin.has_add_permission(self, request)

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """On the list, for its actions; of a config, when it was written by hand."""
        return super().has_change_permission(request) and (obj is None or by_hand(obj) is not None)

    def has_reassign_permission(self, request: HttpRequest) -> bool:
        return bool(request.user.has_perm("checks.change_assignment"))

    def has_unschedule_permission(self, request: HttpRequest) -> bool:
        return bool(request.user.has_perm("checks.delete_config"))

    def get_fields(self, request: HttpRequest, obj: Any = None) -> Sequence[str]:
        if obj is None:
            return "key", "check", "yaml"
        if self.has_change_permission(request, obj):
            return "key", "check", "yaml", *self.readonly_fields[1:-1]
        return self.readonly_fields

    def save_model(self, request: HttpRequest, obj: Config, form: ConfigForm, change: bool) -> None:
        assert form.sent is not None
        put = sending.put(ADMIN, form.sent.key, form.sent.original, actor=request.user.get_username())
        if put.problem:
            messages.warning(request, scrub(put.problem))
        stored = Config.objects.get(origins__source=ADMIN, origins__key=put.sent[0].key)
        obj.pk, obj.name, obj.digest = stored.pk, stored.name, stored.digest

    @display
    def owner(self, config: Config) -> SafeString | str:
        assignment = getattr(config, "assignment", None)
        if assignment:
            return link(assignment.node)
        return f"none: endpoint of {config.node_name}" if config.node_name else DANGLING

    @display
    def since(self, config: Config) -> str:
        assignment = getattr(config, "assignment", None)
        return moment(assignment.since) if assignment else ""

    @display
    def reason(self, config: Config) -> str:
        assignment = getattr(config, "assignment", None)
        return assignment.reason if assignment else ""

    @display
    def origins(self, config: Config) -> SafeString:
        return format_html_join(SafeString("<br>"), "{}", ((origin,) for origin in config.origins.all()))

    @display(description="check IDs")
    def check_ids(self, config: Config) -> SafeString:
        ids = config.instances.order_by("check_id").values_list("check_id", flat=True)
        return preformatted("\n".join(ids[:MOST_IDS]))

    @display(description="YAML, scrubbed")
    def yaml_scrubbed(self, config: Config) -> SafeString:
        return preformatted(config.text)

    def tables(self, request: HttpRequest, config: Config) -> list[Table]:
        moves = Move.objects.filter(config_id=config.pk)
        return [Table.of("Moves", MOVE_HEADERS, move_rows(moves), list_url(Move, config_id=config.pk))]

    @admin.action(description="Reassign to a node…", permissions=["reassign"])
    def reassign(self, request: HttpRequest, queryset: QuerySet[Config]) -> HttpResponse | None:
        chosen = self._chosen(request, queryset)
        form = ReassignForm(request.POST if "node" in request.POST else None)
        if form.is_valid() and self._reassign(request, chosen, form):
            return None
        nodes = Node.objects.accepting().annotate(configs=Count("assignments")).order_by("configs", "name")
        return self._ask(request, "Reassign configs", "reassign", chosen, form=form, nodes=nodes[:MOST_NODES])

    def _reassign(self, request: HttpRequest, chosen: Sequence[Config], form: ReassignForm) -> bool:
        """Whether it was done; what forbids it stands at the form's field."""
        node = form.cleaned_data["node"]
        try:
            moves = dispatcher.reassign([config.pk for config in chosen], node, actor=request.user.get_username())
        except (UnknownNode, dispatcher.NotAccepting, dispatcher.NotDispatchable) as error:
            form.add_error("node", str(error))
            return False
        messages.success(request, f"{numbered(len(moves), 'config')} moved to {node}.")
        return True

    @admin.action(description="Unschedule…", permissions=["unschedule"])
    def unschedule(self, request: HttpRequest, queryset: QuerySet[Config]) -> HttpResponse | None:
        chosen = self._with_their_shards(request, self._chosen(request, queryset))
        refused = [(config, others) for config in chosen if (others := sent_by_others(config))]
        if refused:
            for config, others in refused[:TABLE_ROWS]:
                senders = ", ".join(str(origin) for origin in others)
                messages.error(request, f"{config} is sent by {senders}. Remove it there.")
            return None
        if "confirmed" not in request.POST:
            return self._ask(request, "Unschedule configs", "unschedule", chosen)
        keys = [(origin.source, origin.key) for config in chosen for origin in config.origins.all()]
        dispatcher.unschedule(keys, actor=request.user.get_username())
        messages.success(request, f"{numbered(len(chosen), 'config')} unscheduled.")
        return None

    def _chosen(self, request: HttpRequest, queryset: QuerySet[Config]) -> list[Config]:
        """The selected configs; a request may name any number of them."""
        chosen = list(queryset[: MOST_SELECTED + 1])
        if len(chosen) > MOST_SELECTED:
            raise SuspiciousOperation(f"more than {MOST_SELECTED} configs at once")
        return chosen

    def _with_their_shards(self, request: HttpRequest, chosen: list[Config]) -> list[Config]:
        """With all shards of what was written by hand, since it is unscheduled as a whole: a part can be edited away."""
        written = {origin.key for config in chosen for origin in config.origins.all() if origin.source == ADMIN}
        parents = {sharding.parent_of(key) for key in written if sharding.is_shard(key)}
        shards = [origin.config_id for parent in sorted(parents) for origin in sending.origins(ADMIN, parent)]
        others = list(self.get_queryset(request).filter(pk__in=shards).exclude(pk__in=[config.pk for config in chosen]))
        if others:
            messages.info(request, f"{numbered(len(others), 'config')} more: a config goes with all its shards.")
        return chosen + others

    def _ask(
        self, request: HttpRequest, title: str, action: str, chosen: Sequence[Config], **context: Any
    ) -> HttpResponse:
        """The page between an action's choice and its deed."""
        rows = [(link(config), self.owner(config), self.origins(config)) for config in chosen]
        context |= self.admin_site.each_context(request) | {
            "title": title,
            "action": action,
            "opts": self.opts,
            "chosen": chosen,
            "list_url": list_url(Config),
            "table": Table("", ("config", "owner now", "origins"), rows),
        }
        return TemplateResponse(request, f"admin/checks/{action}.html", context)


def sent_by_others(config: Config) -> list[Origin]:
    """The origins of a config that are not the admin's."""
    return [origin for origin in config.origins.all() if origin.source != ADMIN]
