"""The configs in the admin. Whatever moves a config is a verb of the dispatcher."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.core.exceptions import ValidationError
from django.db.models import F, OuterRef, QuerySet, Subquery
from django.db.models.functions import Now
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from django.utils.text import Truncator, smart_split, unescape_string_literal
from unfold.decorators import display as column
from unfold.views import ChangeList
from unfold.widgets import UnfoldAdminTextareaWidget, UnfoldAdminTextInputWidget

from acts.models import Act
from checks import dispatcher
from checks.dispatcher.changes import Sent
from checks.explain import facts
from checks.models import Config, Origin, Source
from checks.models.troubles import Trouble
from checks.sources import authored, origins
from checks.sources.authored import ADMIN, by_hand
from checks.wire import sharding
from checks.wire.lint import Notice
from checks.wire.patching import UnpatchableConfig
from checks.wire.scrub import scrub
from checks.wire.yamlnodes import InvalidYAML
from clusteragent.lib import clock
from clusteragent.lib.database.natural import Natural
from clusteragent.lib.shortids import short_id
from clusteragent.lib.words import duration, milliseconds, percent, plain_count
from operators.admin import acts, configpage
from operators.admin.actions import SteeringAdmin
from operators.admin.base import TABLE_ROWS, UncountedChangeList, aged, anchor, first_words, link, list_url, row_url
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
from operators.queries import WIDE_COLUMNS, state_of
from operators.roles import sees_digests

# Fields that are only shown when they have a value.
OPTIONAL_FIELDS = ("node_name", "dangling_since", "former_node")
DANGLING = SafeString('<span class="font-semibold text-orange-700 dark:text-orange-400">none: dangling</span>')
# So much of an error is shown in the list.
MOST_ERROR_WORDS = 12
# What the form begins with.
_EXAMPLE = "init_config:\ninstances:\n  - "


class ConfigForm(forms.ModelForm):  # type: ignore[type-arg]
    """A config in the format of config files, under a name that the operator chooses. A valid form has the config as `sent`."""

    key = forms.CharField(
        label="Name",
        max_length=253,
        validators=[authored.validate_name],
        help_text="Yours to choose. It can't be changed later.",
        widget=UnfoldAdminTextInputWidget,
    )
    check = forms.RegexField(
        r"^[A-Za-z0-9_.-]+$",
        max_length=253,
        help_text="The check that runs it, such as http_check.",
        error_messages={"invalid": "Letters, digits, underscores, dots and hyphens."},
        widget=UnfoldAdminTextInputWidget,
    )
    yaml = forms.CharField(
        label="YAML",
        strip=False,
        initial=_EXAMPLE,
        help_text="As in a config file: init_config, instances, logs. It is a cluster check without saying so.",
        widget=UnfoldAdminTextareaWidget(attrs={"rows": 16, "spellcheck": "false", "style": "font-family: monospace"}),
    )

    class Meta:
        model = Config
        fields: tuple[str, ...] = ()

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.sent: Sent | None = None
        if self.instance.pk and (origin := by_hand(self.instance)):
            self.fields["key"].disabled = True
            key = sharding.parent_of(origin.key)
            original = origins.original(ADMIN, key)
            self.initial = {
                "key": key,
                "check": original.name,
                "yaml": origins.written(ADMIN, key) or authored.text_of(original),
            }

    def clean_key(self) -> str:
        """The name. Raises ValidationError if another config has it."""
        key: str = self.cleaned_data["key"]
        if not self.instance.pk and origins.origins(ADMIN, key):
            raise ValidationError("There is a config of this name.")
        return key

    def clean_yaml(self) -> str:
        """The text with its original line ends; browsers change them."""
        text: str = self.cleaned_data["yaml"]
        return text.replace("\r\n", "\n")

    def clean(self) -> None:
        super().clean()
        if {"key", "check", "yaml"} <= self.cleaned_data.keys():
            try:
                self.sent = authored.written(**{name: self.cleaned_data[name] for name in ("key", "check", "yaml")})
            except (InvalidYAML, dispatcher.Refused, UnpatchableConfig) as error:
                self.add_error("yaml", str(error))

    def warn(self) -> list[Notice]:
        """Store the warnings about the written config and return them. The config is compared with others of its check."""
        assert self.sent is not None
        mine = [origin.config_id for origin in origins.origins(ADMIN, self.sent.key)]
        found = authored.warnings_about([self.sent], Config.objects.exclude(pk__in=mine))
        Source.objects.replace_warnings(ADMIN, {self.sent.key}, found)
        return found


class ConfigList(UncountedChangeList):
    """The list, whose rows have `known`: what is known of the config now."""

    def get_results(self, request: HttpRequest) -> None:
        super().get_results(request)
        known = facts.of_many([one for one in self.result_list if one.trouble])
        for one in self.result_list:
            one.known = known.get(one.pk)


@admin.register(Config)
class ConfigAdmin(SteeringAdmin):
    """The configs, with their orders, origins and owners. Configs written by hand can be edited."""

    form = ConfigForm
    list_display = ("called", "owner", "since", "condition", "load", "run_time", "last_error", "origins")
    list_filter = (
        OwnerFilter,
        OrderFilter,
        TroubleFilter,
        CheckFilter,
        SourceFilter,
        ServiceFilter,
        ClusterCheckFilter,
        NodeFilter,
    )
    search_fields = ("text",)
    search_help_text = "Words of the title or the YAML, a short ID, or, for authors, a digest or a check ID"
    ordering = (Natural("title"), "pk")
    sortable_by = ("called", "since", "condition", "load", "run_time")
    readonly_fields = (
        "check_name", "digest", "shown_short_id", "origins", "node_name", "dangling_since", "former_node", "created", "changed"
    )  # fmt: skip
    actions = (*SteeringAdmin.steering, "unschedule")
    change_form_outer_before_template = "admin/checks/config_head.html"
    change_form_outer_after_template = "admin/checks/config_foot.html"

    class Media:
        css = {"all": ["checks/config.css"]}

    def get_queryset(self, request: HttpRequest) -> QuerySet[Config]:
        found = Config.objects.select_related("assignment__node", "former_node", "pin", "pause", "isolation", "cost")
        first = Trouble.objects.current().filter(config=OuterRef("pk")).order_by("since", "kind")
        found = found.annotate(
            now=Now(), trouble=Subquery(first.values("kind")[:1]), trouble_since=Subquery(first.values("since")[:1])
        )
        return found.prefetch_related("origins").defer(*WIDE_COLUMNS)

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ChangeList]:
        return ConfigList

    def get_search_results(self, request: HttpRequest, queryset: Any, search_term: str) -> tuple[QuerySet[Any], bool]:
        exact = sees_digests(request.user)
        for word in smart_split(first_words(search_term)):
            quoted = word[0] in "\"'" and word[0] == word[-1] and len(word) > 1
            queryset = queryset.containing(unescape_string_literal(word) if quoted else word, exact=exact)
        return queryset, False

    has_add_permission = admin.ModelAdmin.has_add_permission

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Whether the user may run the list's actions, or edit this config. Only configs written by hand are editable."""
        return super().has_change_permission(request) and (obj is None or by_hand(obj) is not None)

    def has_unschedule_permission(self, request: HttpRequest) -> bool:
        """Whether the user may unschedule configs."""
        return bool(request.user.has_perm("checks.delete_config"))

    def get_fields(self, request: HttpRequest, obj: Any = None) -> Sequence[str]:
        if obj is None:
            return "key", "check", "yaml"
        shown = [name for name in self.readonly_fields if name not in OPTIONAL_FIELDS or getattr(obj, name)]
        if not sees_digests(request.user):
            shown.remove("digest")
        return ["key", "check", "yaml", *shown[1:]] if self.has_change_permission(request, obj) else shown

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
        obj.pk, obj.name, obj.digest, obj.title = stored.pk, stored.name, stored.digest, stored.title

    def response_post_save_add(self, request: HttpRequest, obj: Config) -> HttpResponse:
        """What was added is shown, not the list."""
        return redirect(row_url(obj))

    @column(description="config", ordering=Natural("title"))
    def called(self, config: Config) -> str:
        """How people call it."""
        return str(config)

    @column(description="check", ordering="name")
    def check_name(self, config: Config) -> str:
        """The name of the check, without secrets."""
        return scrub(config.name)

    @column(description="short ID")
    def shown_short_id(self, config: Config) -> str:
        """The short ID."""
        return short_id(config.digest)

    @column
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

    @column
    def origins(self, config: Config) -> SafeString:
        """The origins, one a line. An object in Kubernetes leads to all of its configs."""
        shown = []
        for origin in config.origins.all():
            kind, name = origin.kubernetes_object
            shown.append(anchor(list_url(Config, **{kind: name}), origin) if kind else origin)
        return format_html_join(SafeString("<br>"), "{}", ((one,) for one in shown))

    @column(description="state", ordering=F("trouble_since").asc(nulls_last=True))
    def condition(self, config: Any) -> str:
        """What is wrong with it and for how long, and its orders; empty if there is nothing to say."""
        wrong = []
        if config.trouble:
            wrong.append(
                f"{Trouble.Kind(config.trouble).label.lower()} for {duration(clock.now() - config.trouble_since)}"
            )
        if config.dangling_since:
            wrong.append(f"dangling for {duration(clock.now() - config.dangling_since)}")
        return ", ".join(filter(None, (*wrong, self.orders(config))))

    @column(description="load", ordering=F("cost__workers_needed").asc(nulls_first=True))
    def load(self, config: Config) -> str:
        """How much of a worker it keeps busy; empty while nobody measured it."""
        return percent(config.cost.workers_needed) if hasattr(config, "cost") else ""

    @column(description="run time", ordering=F("cost__seconds").asc(nulls_first=True))
    def run_time(self, config: Config) -> str:
        """How long its slowest instance runs; empty while nobody measured it."""
        seconds = config.cost.seconds if hasattr(config, "cost") else None
        return "" if seconds is None else milliseconds(1000 * seconds)

    @column(description="last error")
    def last_error(self, config: Any) -> SafeString | str:
        """The beginning of the last run's error, with all of it on hover; empty if it did not fail."""
        error = config.known.error if config.known else ""
        shown = Truncator(error).words(MOST_ERROR_WORDS)
        return format_html('<span title="{}">{}</span>', error, shown) if error else ""

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

    def page_context(self, request: HttpRequest, config: Config) -> dict[str, Any]:
        exact = sees_digests(request.user)
        acted = acts.tables(request.user, Act.objects.of_config(config.pk), config=config.pk)
        return configpage.context(config, exact=exact) | {"owner": self.owner(config), "acts": acted}

    @admin.action(description="Unschedule…", permissions=["unschedule"])
    def unschedule(self, request: HttpRequest, queryset: QuerySet[Config]) -> HttpResponse | None:
        """Ask for confirmation, then remove configs that were written by hand, with all their shards. Others are refused."""
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
        origins.take_back(keys, actor=request.user.get_username())
        Source.objects.replace_warnings(ADMIN, {sharding.parent_of(key) for _, key in keys}, [])
        messages.success(request, f"{plain_count(len(chosen), 'config')} unscheduled.")
        return None

    def _with_their_shards(self, request: HttpRequest, chosen: list[Config]) -> list[Config]:
        """The chosen configs and all shards of those written by hand. A single part can only be removed by editing the config."""
        written = {origin.key for config in chosen for origin in config.origins.all() if origin.source == ADMIN}
        parents = {sharding.parent_of(key) for key in written if sharding.is_shard(key)}
        shards = [origin.config_id for parent in sorted(parents) for origin in origins.origins(ADMIN, parent)]
        others = list(self.get_queryset(request).filter(pk__in=shards).exclude(pk__in=[config.pk for config in chosen]))
        if others:
            messages.info(request, f"{plain_count(len(others), 'config')} more: a config goes with all its shards.")
        return chosen + others


def sent_by_others(config: Config) -> list[Origin]:
    """The origins of a config that are not the admin's."""
    return [origin for origin in config.origins.all() if origin.source != ADMIN]
