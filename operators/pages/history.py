"""The history of the cluster."""

from django.http import HttpRequest, HttpResponse

from operators import charts
from operators.pages import base


@base.page
def history(request: HttpRequest) -> HttpResponse:
    """Load, failing configs, moves and nodes. `?history=hour|day|week`."""
    return base.render(request, "operators/history.html", "History", history=charts.of_cluster(request))
