"""Which other nodes could have a config now, and why the rest can't: a part of its page."""

from typing import Any

from django.contrib import admin
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404

from checks.explain import why
from checks.models import Config
from clusteragent.lib.words import listed, load_in_words, plain_count
from operators import documentation
from operators.admin.base import Table, list_url
from operators.pages import base

MOST_REASONS = 20


@base.fragment
def others(request: HttpRequest, pk: int) -> HttpResponse:
    """The least loaded nodes, each with what starts the move, and the refused ones. Apart, since it looks at all nodes."""
    config = get_object_or_404(Config, pk=pk)
    found = why.others(config)
    refused = [(reason, listed(names)) for reason, names in found.refused.items()]
    if (left := len(refused) - MOST_REASONS) > 0:
        refused[MOST_REASONS:] = [(f"and {plain_count(left, 'other reason')}", "")]
    configs: Any = admin.site.get_model_admin(Config)
    context = {
        "best": [(name, load_in_words(load, is_assumed=name in found.assumed)) for name, load in found.best],
        "refused": Table("", ("why not", "nodes"), refused),
        "reasons_url": documentation.page("operations", "who-may-run-what"),
        "config": str(pk),
        "list_url": list_url(Config),
        "may_move": configs.may_reassign(request, config),
    }
    return base.render_part(request, "operators/others.html", f"Where {config} could go now", **context)
