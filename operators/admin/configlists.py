"""Lists of configs: that of all, and what a node has, on its page."""

from typing import Any

from django.contrib import admin
from django.contrib.admin.views.main import ORDER_VAR
from django.db.models import Case, OuterRef, QuerySet, Subquery, TextField, Value, When
from django.db.models.functions import Concat
from django.http import HttpRequest

from checks.explain import facts
from checks.models import Config, Origin
from checks.models.configs import displayable
from checks.models.tags import tags_in
from checks.models.troubles import Trouble
from clusteragent.lib.database.natural import Natural
from operators.admin.base import TABLE_ROWS, list_url
from operators.admin.changelists import UncountedChangeList
from operators.queries import of_node

# Since when a config fails where it is; NULL if it does not. All are read at once: few fail.
_FAILING = Trouble.objects.current().filter(kind=Trouble.Kind.FAILING)
FAILING_SINCE = Case(
    When(pk__in=_FAILING.values("config"), then=Subquery(_FAILING.filter(config=OuterRef("pk")).values("since")[:1]))
)
# Who sends it, as it is shown: of several the first.
FIRST_ORIGIN = Subquery(
    Origin.objects.filter(config=OuterRef("pk"))
    .order_by("source", "key")
    .values(sent=Concat("source", Value(":"), "shown", output_field=TextField()))[:1]
)


class ConfigList(UncountedChangeList):
    """The list, whose rows have `known`, what is known of the config now, and its `tags`."""

    def get_results(self, request: HttpRequest) -> None:
        super().get_results(request)
        known = facts.of_many([one for one in self.result_list if one.trouble])
        shown = Config.objects.filter(displayable(), pk__in=[one.pk for one in self.result_list])
        texts = dict(shown.values_list("pk", "text"))
        for one in self.result_list:
            one.known, one.tags = known.get(one.pk), tags_in(texts.get(one.pk, ""))


class NodeConfigs(ConfigList):
    """What a node has, on its page: the list of configs with columns of its own. Sorted by `?o=` of the page."""

    # Instead of how to begin.
    empty = "It has no config."
    columns = ("called", "condition", "load", "run_time", "last_error", "since", "reason", "shown_origins")

    def __init__(self, request: HttpRequest, node: str) -> None:
        self._node = node
        site = admin.site.get_model_admin(Config)
        super().__init__(
            request,
            Config,
            self.columns,
            ("called",),
            (),
            None,
            (),
            False,
            TABLE_ROWS,
            TABLE_ROWS,
            (),
            site,
            self.columns,
            "",
        )
        # The page may have come from a list of nodes, whose filters are not the configs'.
        self.preserved_filters = ""

    @property
    def more(self) -> str:
        """The URL of all rows in this order."""
        return list_url(Config, node=self._node, o=self.named[ORDER_VAR])

    def get_queryset(self, request: HttpRequest, *args: Any, **kwargs: Any) -> QuerySet[Any]:
        self.filter_specs: list[Any] = []
        self.params.setdefault(ORDER_VAR, "-load")
        rows = self.root_queryset.filter(pk__in=of_node(self._node)).order_by(Natural("title"))
        return rows.order_by(*self.get_ordering(request, rows))

    def get_results(self, request: HttpRequest) -> None:
        self.page_num = 1
        super().get_results(request)
        shown = [(one.pk, one.title, one.name, one.digest) for one in self.result_list]
        for one, name in zip(self.result_list, Config.objects.told_apart(shown), strict=True):
            one.told_apart = name
