"""Where a config could go now: a part of its page."""

from typing import Any

from django.contrib import admin
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404

from checks.explain import why
from checks.models import Config
from clusteragent.lib.words import percent
from operators.admin.base import list_url
from operators.pages import base


@base.fragment
def best(request: HttpRequest, pk: int) -> HttpResponse:
    """The least loaded other nodes that could have it, each with what starts the move. Apart, since it looks at all nodes."""
    config = get_object_or_404(Config, pk=pk)
    configs: Any = admin.site.get_model_admin(Config)
    context = {
        "nodes": [(name, percent(load)) for name, load in why.best_now(config)],
        "config": str(pk),
        "list_url": list_url(Config),
        "may_move": configs.may_reassign(request, config),
    }
    return base.render_part(request, "operators/best.html", f"Where {config} could go now", **context)
