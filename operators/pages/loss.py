"""What would happen if a node were lost, or a failure domain: a part of the node's page, and of the list of a domain's nodes."""

from collections.abc import Collection

from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404

from checks.explain import loss as losing
from clusteragent.lib import clock
from nodes.models import Node
from nodes.models.nodes import named_domain
from operators.pages import base

# The most nodes that are listed, of those that get configs.
MOST_RECEIVERS = 10
# The most reasons why configs would find no node.
MOST_REASONS = 3


@base.fragment
def loss(request: HttpRequest, pk: int) -> HttpResponse:
    """Where the node's configs would go if it were lost now. Fetched by its page separately, since it looks at all nodes."""
    name = get_object_or_404(Node.objects.known(), pk=pk).name
    return _shown(request, name, [name])


@base.fragment
def of_domain(request: HttpRequest) -> HttpResponse:
    """Where the configs of a domain's nodes would go. Fetched by their list."""
    domain = request.GET.get("domain", "")
    names = Node.objects.in_domain(domain).values_list("name", flat=True)
    if not names:
        raise Http404
    return _shown(request, named_domain(domain), list(names))


def _shown(request: HttpRequest, lost: str, names: Collection[str]) -> HttpResponse:
    found = losing.of(names)
    context = {
        "loss": found,
        "at": clock.now(),
        "moving": sum(found.placed.values()),
        "receivers": list(found.placed.items())[:MOST_RECEIVERS],
        "more": len(found.placed) - MOST_RECEIVERS,
        "reasons": list(found.reasons.items())[:MOST_REASONS],
    }
    return base.render_part(request, "operators/loss.html", f"If {lost} were lost now", **context)
