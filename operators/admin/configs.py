"""The configs, as operators see them. Whatever moves one is a verb of the dispatcher."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.utils.html import format_html_join
from django.utils.safestring import SafeString
from django.utils.text import smart_split, unescape_string_literal
from unfold.decorators import display as column

from checks import dispatcher
from checks.models import Config, Origin, Source
from checks.sources import origins
from checks.sources.byhand import ADMIN, by_hand
from checks.wire import sharding
from checks.wire.scrub import scrub
from clusteragent.lib.shortids import short_id
from clusteragent.lib.words import moment, numbered
from operators.admin import configpage
from operators.admin.actions import SteeringAdmin
from operators.admin.base import TABLE_ROWS, first_words, link
from operators.admin.configforms import ConfigForm
from operators.admin.filters import CheckFilter, NodeFilter, OrderFilter, OwnerFilter, SourceFilter, TroubleFilter
from operators.roles import sees_digests

# Never read for a list.
WIDE = ("original", "wire", "scrubbed", "text")
# Shown only where there is something to show.
SELDOM = ("node_name", "dangling_since", "former_node")
DANGLING = SafeString('<span class="font-semibold text-orange-700 dark:text-orange-400">none: dangling</span>')


@admin.register(Config)
class ConfigAdmin(SteeringAdmin):
    form = ConfigForm
    list_display = ("check_name", "owner", "since", "orders", "dangling_since", "origins", "short_id")
    list_filter = (OwnerFilter, OrderFilter, TroubleFilter, CheckFilter, SourceFilter, NodeFilter)
    search_fields = ("text",)
    search_help_text = "Words of the YAML, a short ID, or, for authors, a digest or a check ID"
    sortable_by = ("check_name",)
    readonly_fields = (
        "check_name", "digest", "short_id", "origins", "node_name", "dangling_since", "former_node", "created", "changed"
    )  # fmt: skip
    actions = (*SteeringAdmin.steering, "unschedule")
    change_form_outer_before_template = "admin/checks/config_head.html"
    change_form_outer_after_template = "admin/checks/config_foot.html"

    class Media:
        css = {"all": ["checks/config.css"]}

    def get_queryset(self, request: HttpRequest) -> QuerySet[Config]:
        found = Config.objects.select_related("assignment__node", "former_node", "pin", "pause", "isolation")
        return found.prefetch_related("origins").defer(*WIDE)

    def get_search_results(self, request: HttpRequest, queryset: Any, search_term: str) -> tuple[QuerySet[Any], bool]:
        exact = sees_digests(request.user)
        for word in smart_split(first_words(search_term)):
            quoted = word[0] in "\"'" and word[0] == word[-1] and len(word) > 1
            queryset = queryset.containing(unescape_string_literal(word) if quoted else word, exact=exact)
        return queryset, False

    def has_add_permission(self, request: HttpRequest) -> bool:
        return admin.ModelAdmin.has_add_permission(self, request)

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """On the list, for its actions; of a config, when it was written by hand."""
        return super().has_change_permission(request) and (obj is None or by_hand(obj) is not None)

    def has_unschedule_permission(self, request: HttpRequest) -> bool:
        return bool(request.user.has_perm("checks.delete_config"))

    def get_fields(self, request: HttpRequest, obj: Any = None) -> Sequence[str]:
        if obj is None:
            return "key", "check", "yaml"
        told = [name for name in self.readonly_fields if name not in SELDOM or getattr(obj, name)]
        if not sees_digests(request.user):
            told.remove("digest")
        return ["key", "check", "yaml", *told[1:]] if self.has_change_permission(request, obj) else told

    def save_model(self, request: HttpRequest, obj: Config, form: ConfigForm, change: bool) -> None:
        assert form.sent is not None
        actor = request.user.get_username()
        put = origins.put(ADMIN, form.sent.key, form.sent.original, text=form.sent.written, actor=actor)
        if put.problem:
            messages.warning(request, scrub(put.problem))
        form.sent = replace(form.sent, linted=form.sent.linted.besides(put.warning))
        for notice in form.warn():
            messages.warning(request, scrub(str(notice)))
        stored = Config.objects.get(origins__source=ADMIN, origins__key=put.sent[0].key)
        obj.pk, obj.name, obj.digest = stored.pk, stored.name, stored.digest

    @column(description="check", ordering="name")
    def check_name(self, config: Config) -> str:
        return scrub(config.name)

    @column(description="short ID")
    def short_id(self, config: Config) -> str:
        return short_id(config.digest)

    @column
    def owner(self, config: Config) -> SafeString | str:
        assignment = getattr(config, "assignment", None)
        if assignment:
            return link(assignment.node)
        if hasattr(config, "pause"):
            return "none: paused"
        return f"none: endpoint of {config.node_name}" if config.node_name else DANGLING

    @column
    def since(self, config: Config) -> str:
        assignment = getattr(config, "assignment", None)
        return moment(assignment.since) if assignment else ""

    @column
    def origins(self, config: Config) -> SafeString:
        return format_html_join(SafeString("<br>"), "{}", ((origin,) for origin in config.origins.all()))

    @column
    def orders(self, config: Config) -> str:
        """In words: pinned, paused, isolated."""
        kinds = ("pin", "pinned"), ("pause", "paused"), ("isolation", "isolated")
        return ", ".join(word for kind, word in kinds if hasattr(config, kind))

    def row_actions(self, request: HttpRequest, config: Config) -> list[str]:
        is_paused, is_isolated = hasattr(config, "pause"), hasattr(config, "isolation")
        offered = {
            "reassign": not (config.node_name or is_paused),
            "pin": not config.node_name,
            "unpin": hasattr(config, "pin"),
            "pause": not (config.node_name or is_paused),
            "resume": is_paused,
            "isolate": hasattr(config, "assignment") and not is_isolated,
            "release": is_isolated,
            "unschedule": not sent_by_others(config),
        }
        return [name for name, is_offered in offered.items() if is_offered]

    def page(self, request: HttpRequest, config: Config) -> dict[str, Any]:
        exact = sees_digests(request.user)
        return configpage.context(config, exact=exact) | {"owner": self.owner(config)}

    @admin.action(description="Unschedule…", permissions=["unschedule"])
    def unschedule(self, request: HttpRequest, queryset: QuerySet[Config]) -> HttpResponse | None:
        ids = self.ids(request, queryset)
        chosen = self._with_their_shards(request, list(queryset.filter(pk__in=ids)))
        refused = [(config, others) for config in chosen if (others := sent_by_others(config))]
        if refused:
            for config, others in refused[:TABLE_ROWS]:
                senders = ", ".join(str(origin) for origin in others)
                messages.error(request, f"{config} is sent by {senders}. Remove it there.")
            return None
        if "confirmed" not in request.POST:
            pks = [config.pk for config in chosen]
            return self.ask(request, "Unschedule configs", "unschedule", pks, chosen[:TABLE_ROWS])
        keys = [(origin.source, origin.key) for config in chosen for origin in config.origins.all()]
        dispatcher.unschedule(keys, actor=request.user.get_username())
        Source.objects.warn(ADMIN, {sharding.parent_of(key) for _, key in keys}, [])
        messages.success(request, f"{numbered(len(chosen), 'config')} unscheduled.")
        return None

    def _with_their_shards(self, request: HttpRequest, chosen: list[Config]) -> list[Config]:
        """With all shards of what was written by hand, since it is unscheduled as a whole: a part can be edited away."""
        written = {origin.key for config in chosen for origin in config.origins.all() if origin.source == ADMIN}
        parents = {sharding.parent_of(key) for key in written if sharding.is_shard(key)}
        shards = [origin.config_id for parent in sorted(parents) for origin in origins.origins(ADMIN, parent)]
        others = list(self.get_queryset(request).filter(pk__in=shards).exclude(pk__in=[config.pk for config in chosen]))
        if others:
            messages.info(request, f"{numbered(len(others), 'config')} more: a config goes with all its shards.")
        return chosen + others


def sent_by_others(config: Config) -> list[Origin]:
    """The origins of a config that are not the admin's."""
    return [origin for origin in config.origins.all() if origin.source != ADMIN]
