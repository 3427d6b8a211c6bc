"""What would happen if a node were lost: a part of the node's page."""

from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404
from django.template.response import TemplateResponse

from checks.explain import loss as losing
from nodes.models import Node
from operators.pages import base

# The most nodes that are listed.
MOST_RECEIVERS = 10


@base.fragment
def loss(request: HttpRequest, pk: int) -> HttpResponse:
    """Where the node's configs would go if it were lost now. Fetched by its page separately, since it looks at all nodes."""
    node = get_object_or_404(Node.objects.known(), pk=pk)
    found = losing.of(node)
    context = {
        "loss": found,
        "moving": sum(found.placed.values()),
        "receivers": list(found.placed.items())[:MOST_RECEIVERS],
        "more": len(found.placed) - MOST_RECEIVERS,
    }
    return TemplateResponse(request, "operators/loss.html", context)
