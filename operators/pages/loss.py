"""What the loss of a node would do: a part of its page."""

from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404
from django.template.response import TemplateResponse

from checks.explain import loss as losing
from nodes.models import Node
from operators.pages import base

# Nodes that would get what a lost one has.
MOST_HEIRS = 10


@base.fragment
def loss(request: HttpRequest, pk: int) -> HttpResponse:
    """What the node's loss would do: worked out only now, since it looks at all nodes."""
    node = get_object_or_404(Node.objects.known(), pk=pk)
    found = losing.of(node)
    context = {
        "loss": found,
        "moving": sum(found.placed.values()),
        "heirs": list(found.placed.items())[:MOST_HEIRS],
        "more": len(found.placed) - MOST_HEIRS,
    }
    return TemplateResponse(request, "operators/loss.html", context)
