"""The configs in the admin. Whatever moves a config is a verb of the dispatcher."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from django.contrib import admin, messages
from django.db.models import Case, F, OuterRef, QuerySet, Subquery, When
from django.db.models.functions import Now
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, path
from django.utils.decorators import method_decorator
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from django.views.decorators.http import require_POST
from unfold.decorators import display as column
from unfold.views import ChangeList

from acts.models import Act
from acts.recording import record
from checks.explain.aftermath import refilled_after, told_refilled
from checks.models import Config, Origin, Source
from checks.models.bounds import STEERING, require_source, why_not_configs, why_not_source
from checks.models.tags import own_and_common, tags_in
from checks.models.troubles import Trouble
from checks.sources import authored, origins
from checks.sources.authored import ADMIN, by_hand
from checks.wire import lint, sharding
from checks.wire.scrub import scrub
from clusteragent.lib.database.natural import Natural
from clusteragent.lib.words import cut, listed, milliseconds, percent, plain_count
from operators import charts
from operators.admin import acts, configlists, configpage
from operators.admin.actions import SteeringAdmin
from operators.admin.base import (
    TABLE_ROWS,
    Table,
    aged,
    anchor,
    command,
    dated,
    elsewhere,
    example,
    first_of,
    lasting,
    link,
    list_url,
    row_url,
    shortened,
    time_column,
)
from operators.admin.changelists import breakable
from operators.admin.configform import ConfigForm, foresee, remarks_on
from operators.admin.filters import (
    CheckFilter,
    ClusterCheckFilter,
    NodeFilter,
    OrderFilter,
    OwnerFilter,
    ServiceFilter,
    SourceFilter,
    TroubleFilter,
)
from operators.admin.questions import Question, only, seen_by, seen_of
from operators.errors import Lacks, NoSuchRow
from operators.queries import CONFIG_WORDS, WIDE_COLUMNS, state_of
from operators.roles import sees_digests
from operators.terms import Term, written

# Fields that are only shown when they have a value.
OPTIONAL_FIELDS = {"node_name": "node_name", "dangles": "dangling_since", "former_node": "former_node"}
DANGLING = SafeString('<span class="font-semibold text-orange-700 dark:text-orange-400">none: dangling</span>')
# The most check IDs of a config that buttons copy.
MOST_COPIED = 5
# The most tags of a config in the list.
MOST_TAGS = 2
# The most characters of a tag that are shown; all of it is on hover.
MOST_TAG = 24


@admin.register(Config)
class ConfigAdmin(SteeringAdmin):
    """The configs, with their orders, origins and owners. Configs written by hand can be edited."""

    form = ConfigForm
    empty = (
        "A config is one check of something that belongs to no single host. Add one by hand here, put a file with"
        " cluster_check: true into the folder of configs, or annotate a Service of Kubernetes."
    )
    list_display = ("called", "owner", "since", "condition", "load", "run_time", "last_error", "tags", "shown_origins")
    greatest_first = ("load", "run_time")
    list_filter = (
        OwnerFilter, OrderFilter, TroubleFilter, CheckFilter, SourceFilter, ServiceFilter, ClusterCheckFilter, NodeFilter
    )  # fmt: skip
    search_fields = ("text",)
    search_help_text = "tag:env:prod check:postgres state:failing, words of the title or the YAML, an ID"
    words = CONFIG_WORDS
    ordering = (Natural("title"), "pk")
    unsorted = {
        "tags": "a config has many: the bar finds those that have one",
        "shown_origins": "those of all configs take too long to read: source: in the bar finds those of one source",
    }
    readonly_fields = (
        "check_name", "digest", "shown_short_id", "origins", "node_name", "dangles", "former_node", "made", "written"
    )  # fmt: skip
    actions = (*SteeringAdmin.steering, "unschedule")
    dangles = time_column("dangling_since", dated)
    made, written = time_column("created", dated), time_column("changed", dated)
    change_form_outer_before_template = "admin/checks/config_head.html"
    change_form_outer_after_template = "admin/checks/config_foot.html"

    class Media:
        css = {"all": ["checks/config.css", "operators/pages.css"]}

    def get_urls(self) -> list[URLPattern]:
        own = [
            path("remarks/", self.admin_site.admin_view(self.remarks), name="checks_config_remarks"),
            path("template/", self.admin_site.admin_view(self.template), name="checks_config_template"),
            path("<int:pk>/reassign/", self.admin_site.admin_view(self.giving), name="checks_config_reassign"),
        ]
        return [*own, *super().get_urls()]

    def get_changeform_initial_data(self, request: HttpRequest) -> dict[str, Any]:
        given = super().get_changeform_initial_data(request)
        check = given.get("check", "")
        return {"yaml": authored.template_of(check)} | given if check else given

    @method_decorator(require_POST)
    def remarks(self, request: HttpRequest) -> HttpResponse:
        """What is wrong or odd in the text of a form while it is written, and what saving it would do. Nothing is stored."""
        try:
            found = self.get_object(request, request.GET["config"]) if "config" in request.GET else None
        except NoSuchRow:
            # It is gone meanwhile: what is written is a new one.
            found = None
        if not (self.has_change_permission(request, found) if found else self.has_add_permission(request)):
            raise Lacks(f"checks.{'change' if found else 'add'}_config")
        context = remarks_on(request.POST, found)
        if question := context.get("foreseen"):
            context["shown"] = question.signed(request, place="remarks")
        return TemplateResponse(request, "admin/checks/remarks.html", context)

    def template(self, request: HttpRequest) -> HttpResponse:
        """A text that a config of `?check=` can begin with."""
        if not self.has_add_permission(request):
            raise Lacks("checks.add_config")
        return HttpResponse(
            authored.template_of(request.GET.get("check", "")), content_type="text/plain; charset=utf-8"
        )

    def get_queryset(self, request: HttpRequest) -> QuerySet[Config]:
        found = Config.objects.select_related("assignment__node", "former_node", "pin", "pause", "isolation", "cost")
        current = Trouble.objects.current()
        first = current.filter(config=OuterRef("pk")).order_by("since", "kind")
        # All troubles are read at once, and those of a config only where it has one: few do, and lists are sorted by it.
        since = Case(When(pk__in=current.values("config"), then=Subquery(first.values("since")[:1])))
        found = found.annotate(now=Now(), trouble=Subquery(first.values("kind")[:1]), trouble_since=since)
        return found.prefetch_related("origins").defer(*WIDE_COLUMNS)

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ChangeList]:
        return configlists.ConfigList

    def with_text(self, request: HttpRequest, rows: Any, text: str) -> QuerySet[Any]:
        found: QuerySet[Any] = rows.containing(text, exact=sees_digests(request.user))
        return found

    def has_add_permission(self, request: HttpRequest) -> bool:
        """Whether the user may write configs by hand."""
        return admin.ModelAdmin.has_add_permission(self, request) and not why_not_source("checks.add_config", ADMIN)

    def why_not_add(self, request: HttpRequest) -> str:
        """Why a bound or its roles keep the user from writing configs by hand."""
        is_author = admin.ModelAdmin.has_add_permission(self, request)
        return why_not_source("checks.add_config", ADMIN) if is_author else str(super().why_not_add(request))

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Whether the user may run the list's actions, or edit this config. Only configs written by hand are editable."""
        may_change: bool = super().has_change_permission(request)
        if obj is None or not may_change:
            return may_change
        return by_hand(obj) is not None and not why_not_source("checks.change_config", ADMIN)

    def outside(self, permission: str, obj: Config) -> str:
        """Why a bound keeps the user from the config."""
        return why_not_configs(permission, [obj.pk]) if permission in STEERING else why_not_source(permission, ADMIN)

    def has_unschedule_permission(self, request: HttpRequest) -> bool:
        """Whether the user may unschedule configs."""
        return bool(request.user.has_perm("checks.delete_config"))

    def get_fields(self, request: HttpRequest, obj: Any = None) -> Sequence[str]:
        if obj is None:
            return "key", "check", "yaml"
        shown = [
            name for name in self.readonly_fields if name not in OPTIONAL_FIELDS or getattr(obj, OPTIONAL_FIELDS[name])
        ]
        if not sees_digests(request.user):
            shown.remove("digest")
        return ["key", "check", "yaml", *shown[1:]] if self.has_change_permission(request, obj) else shown

    def changeform_view(
        self, request: HttpRequest, object_id: str | None = None, form_url: str = "", extra_context: Any = None
    ) -> HttpResponse:
        """Save what the form itself has shown; ask first where it has not, or where something is odd or a name must be typed."""
        if form := self.sent_form(request, object_id):
            question = foresee(form.sent)
            back = row_url(form.instance) if form.instance.pk else list_url(Config)
            # None: something else was shown, or nothing.
            agreed = question.agreed(seen_by(request, question.button, "shown", place="remarks"))
            if agreed == "" and not question.worse:
                question.note()
            elif page := question.unanswered(request, back, form.instance, reopens=True):
                return page
        named = {} if object_id else {"title": "Add a config by hand"}
        return super().changeform_view(request, object_id, form_url, named | (extra_context or {}))

    def last_change(self, obj: Config) -> tuple[str, datetime] | None:
        written = Act.objects.of_config(obj.pk).filter(verb__in=(Act.Verb.MAKE, Act.Verb.CHANGE))
        return written.order_by("-time").values_list("person", "time").first()

    def save_model(self, request: HttpRequest, obj: Config, form: Any, change: bool) -> None:
        assert form.sent is not None
        actor = request.user.get_username()
        sent, verify = form.sent, form.require_unchanged
        put = origins.put(ADMIN, sent.key, sent.original, text=sent.written, actor=actor, verify=verify)
        if put.problem:
            messages.warning(request, scrub(put.problem))
        form.sent = replace(form.sent, linted=form.sent.linted.besides(put.warning))
        for notice in form.warn():
            messages.warning(request, lint.without_secrets(*notice))
        stored = Config.objects.get(origins__source=ADMIN, origins__key=put.sent[0].key)
        obj.pk, obj.name, obj.digest, obj.title = stored.pk, stored.name, stored.digest, stored.title

    def response_post_save_add(self, request: HttpRequest, obj: Config) -> HttpResponse:
        """What was added is shown, not the list."""
        return redirect(row_url(obj))

    def response_post_save_change(self, request: HttpRequest, obj: Config) -> HttpResponse:
        """So is what was changed."""
        return redirect(row_url(obj))

    @column(description="config", ordering=Natural("title"))
    def called(self, config: Config) -> SafeString:
        """How people call it; on a node's page told apart from others of that name."""
        return breakable(getattr(config, "told_apart", "") or str(config))

    @column(description="check", ordering="name")
    def check_name(self, config: Config) -> str:
        """The name of the check, without secrets."""
        return scrub(config.name)

    @column(description="short ID")
    def shown_short_id(self, config: Config) -> str:
        """The short ID."""
        return config.short_id

    @column(ordering=F("assignment__node__name").asc(nulls_first=True))
    def owner(self, config: Config) -> SafeString | str:
        """A link to the node that has the config, or why no node has it."""
        match state_of(config):
            case "assigned":
                return link(config.assignment.node)
            case "dangling":
                return DANGLING
            case state:
                return f"none: {state} of {config.node_name}" if config.node_name else f"none: {state}"

    @column(ordering=F("assignment__since").asc(nulls_first=True))
    def since(self, config: Any) -> SafeString | str:
        """For how long the node has had the config."""
        assignment = getattr(config, "assignment", None)
        return aged(assignment.since, config.now) if assignment else ""

    @column(ordering="assignment__reason")
    def reason(self, config: Config) -> str:
        """Why its node has it."""
        return config.assignment.reason if hasattr(config, "assignment") else ""

    @column
    def origins(self, config: Config) -> SafeString:
        """The origins, one a line. An object in Kubernetes leads to all of its configs."""
        shown = []
        for origin in config.origins.all():
            kind, name = origin.kubernetes_object
            words = breakable(str(origin))
            shown.append(anchor(list_url(Config, **{kind: name}), words) if kind else words)
        return format_html_join(SafeString("<br>"), "{}", ((one,) for one in shown))

    # Not `origins`: by that name Django would sort by a join.
    @column(description="origins", ordering=configlists.FIRST_ORIGIN)
    def shown_origins(self, config: Config) -> SafeString:
        """The origins, one a line."""
        return self.origins(config)

    @column(description="state", ordering=F("trouble_since").asc(nulls_last=True))
    def condition(self, config: Any) -> SafeString:
        """What is wrong with it and for how long, and its orders; empty if there is nothing to say."""
        wrong = []
        if config.trouble:
            wrong.append((Trouble.Kind(config.trouble).label.lower(), config.trouble_since))
        if config.dangling_since:
            wrong.append(("dangling", config.dangling_since))
        told = [format_html("{} for {}", what, lasting(since, config.now)) for what, since in wrong]
        return format_html_join(", ", "{}", ((one,) for one in (*told, self.orders(config)) if one))

    @column(description="load of a worker", ordering=F("cost__workers_needed").asc(nulls_first=True))
    def load(self, config: Config) -> str:
        """How much of a worker it keeps busy; empty while nobody measured it."""
        return percent(config.cost.workers_needed) if hasattr(config, "cost") else ""

    @column(description="run time", ordering=F("cost__seconds").asc(nulls_first=True))
    def run_time(self, config: Config) -> str:
        """How long its slowest instance runs; empty while nobody measured it."""
        seconds = config.cost.seconds if hasattr(config, "cost") else None
        return "" if seconds is None else milliseconds(1000 * seconds)

    # Sorted by since when it fails: the error itself may hold a secret, as its runner sent it.
    @column(description="last error", ordering=configlists.FAILING_SINCE.asc(nulls_last=True))
    def last_error(self, config: Any) -> SafeString | str:
        """The beginning of the last run's error, with all of it on hover; empty if it did not fail."""
        return shortened(config.known.noted_error) if config.known else ""

    @column
    def tags(self, config: Any) -> SafeString:
        """Its first own tags, each linked to the configs that have it, and how many more it has."""
        own, common = own_and_common(config.tags)
        return tag_chips([*own, *common], min(MOST_TAGS, len(own)))

    def orders(self, config: Config) -> str:
        """The orders in words: pinned, paused, isolated."""
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

    def may_reassign(self, request: HttpRequest, config: Config) -> bool:
        """Whether the user may give this config to another node."""
        return (
            self.has_reassign_permission(request)
            and "reassign" in self.row_actions(request, config)
            and not self.why_not(request, "reassign", config)
        )

    def form_reasons(self, request: HttpRequest, obj: Any) -> list[tuple[str, str]]:
        return self.reasons_of_form(request, obj, ["change"]) if by_hand(obj) else []

    def page_context(self, request: HttpRequest, config: Config) -> dict[str, Any]:
        exact = sees_digests(request.user)
        own, common = own_and_common(tags_in(config.display_text))
        acted = acts.tables(request.user, Act.objects.of_config(config.pk), config=config.pk)
        return configpage.context(config, exact=exact) | {
            "owner": self.owner(config),
            "acts": acted,
            "tags": tag_chips([*own, *common]),
            "history": charts.of_config(request, config),
            "elsewhere": elsewhere(
                request,
                config,
                example(request, "operators:config-detail", config.pk),
                # A name that others have, too, is refused.
                ("command", command("why", config.unique_name)),
                *(("digest", config.digest) for _ in range(exact)),
                *(("check ID", one.shown_id(exact=exact)) for one in config.instances.order_by("pk")[:MOST_COPIED]),
            ),
        }

    @admin.action(description="Unschedule…", permissions=["unschedule"])
    def unschedule(self, request: HttpRequest, queryset: QuerySet[Config]) -> HttpResponse | None:
        """Ask for confirmation, then remove configs that were written by hand, with all their shards. Others are refused."""
        require_source("checks.delete_config", ADMIN)
        ids = self.ids(request, queryset)
        chosen = self._with_their_shards(request, list(queryset.filter(pk__in=ids)))
        refused = [(config, others) for config in chosen if (others := sent_by_others(config))]
        if refused:
            for config, others in refused[:TABLE_ROWS]:
                senders = ", ".join(str(origin) for origin in others)
                messages.error(request, f"{config} is sent by {senders}. Remove it there.")
            named = listed([str(config) for config, _ in refused])
            record(
                Act.Verb.REFUSE,
                f"unschedule {named}",
                reason="others send it",
                configs=[config.pk for config, _ in refused],
            )
            return None
        if chosen and (page := self._unscheduling(chosen).unanswered(request, list_url(Config), only(chosen, Config))):
            return page
        keys = [(origin.source, origin.key) for config in chosen for origin in config.origins.all()]
        origins.take_back(keys, actor=request.user.get_username())
        Source.objects.replace_warnings(ADMIN, {sharding.parent_of(key) for _, key in keys}, [])
        messages.success(request, f"{plain_count(len(chosen), 'config')} unscheduled.")
        return None

    def _unscheduling(self, chosen: Sequence[Config]) -> Question:
        """The question whether these configs shall go."""
        first = chosen[:TABLE_ROWS]
        rows = [(link(config), self.owner(config), self.origins(config)) for config in first]
        filled = refilled_after({config.pk: None for config in chosen})
        return Question(
            f"Unschedule {plain_count(len(chosen), 'config')}",
            [
                "Written by hand. Unscheduled, they stop running and their YAML is gone; the ledger keeps their moves.",
                *_staying_orders(chosen),
                *told_refilled(filled),
            ],
            tables=[Table(first_of("Configs", len(first), len(chosen)), ("config", "owner now", "origins"), rows)],
            seen=seen_of((config.pk, config.digest, config.changed) for config in chosen),
            button="Unschedule",
            is_dangerous=True,
            moves=filled,
            configs=[config.pk for config in chosen],
        )

    def _with_their_shards(self, request: HttpRequest, chosen: list[Config]) -> list[Config]:
        """The chosen configs and all shards of those written by hand. A single part can only be removed by editing the config."""
        written = {origin.key for config in chosen for origin in config.origins.all() if origin.source == ADMIN}
        parents = {sharding.parent_of(key) for key in written if sharding.is_shard(key)}
        shards = [origin.config_id for parent in sorted(parents) for origin in origins.origins(ADMIN, parent)]
        others = list(self.get_queryset(request).filter(pk__in=shards).exclude(pk__in=[config.pk for config in chosen]))
        if others:
            messages.info(request, f"{plain_count(len(others), 'config')} more: a config goes with all its shards.")
        return chosen + others


def tag_chips(tags: Sequence[str], most: int | None = None) -> SafeString:
    """These tags, each linked to the configs that have it. Those after the first `most` are named on hover: `+3`."""
    chips = [
        format_html('<a class="list-chip" href="{}" title="{}">{}</a>', tagged(tag), tag, cut(tag, MOST_TAG))
        for tag in tags[:most]
    ]
    if most is not None and (others := tags[most:]):
        # In the line of the last tag.
        last = format_html(
            '{} <span title="{}">+{}</span>', SafeString("".join(chips[-1:])), ", ".join(others), len(others)
        )
        chips[-1:] = [format_html('<span class="list-last">{}</span>', last)]
    return format_html_join(" ", "{}", ((chip,) for chip in chips))


def tagged(tag: str) -> str:
    """The URL of the list of the configs that have this tag."""
    return list_url(Config, q=written([Term("tag", tag)]))


def _staying_orders(chosen: Sequence[Config]) -> list[str]:
    """A sentence about the orders that outlive these configs, if they have some."""
    names = [f"{kind}s" for kind in ("pin", "pause", "isolation") if any(hasattr(config, kind) for config in chosen)]
    return [f"Their {listed(names)} stay, and hold again for what comes under the same name."] if names else []


def sent_by_others(config: Config) -> list[Origin]:
    """The origins of a config that are not the admin's."""
    return [origin for origin in config.origins.all() if origin.source != ADMIN]
