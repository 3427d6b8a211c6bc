"""What fails, by what it says: the same error of many checks is one line."""

from django.http import HttpRequest, HttpResponse

from checks.explain import failures as failing
from checks.models import Config
from checks.wire.scrub import scrub
from clusteragent.lib import clock
from clusteragent.lib.words import listed
from operators.admin.base import aged, list_url, row_url
from operators.pages import base

# The most configs that each failure names.
MOST_NAMED = 5


@base.page
def failures(request: HttpRequest) -> HttpResponse:
    """The failures by the last stats."""
    found = failing.read()
    now = clock.now()
    rows = [
        {
            "failure": one,
            "check": scrub(one.check),
            "since": aged(one.since, now),
            "last_good": aged(one.last_good, now),
            "nodes": listed([name for name, _ in one.nodes.most_common()]),
            "teams": [scrub(team) for team in one.teams],
            "named": [(str(config), row_url(config)) for config in one.configs[:MOST_NAMED]],
            "more": len(one.configs) - MOST_NAMED,
        }
        for one in found.told
    ]
    context = {
        "rows": rows, "configs": found.configs, "number": found.number, "most": failing.MOST_TOLD,
        "is_cut": found.is_cut, "looked_at": failing.MOST, "list": list_url(Config, trouble="failing"), "at": now,
    }  # fmt: skip
    return base.render(request, "operators/failures.html", "Failures", **context)
