"""A real Prometheus scrapes the operators' web server, asks what the dashboard asks, and fires alerts."""

import functools
import json
import uuid
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import timedelta
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
import yaml
from django.core.management import call_command

from checks import dispatcher
from checks.models import Config, Cost, Source, TaskRun
from checks.tests.cast import report, sent, silence
from clusteragent.lib.clock import ago
from nodes.models import Hearing, Node
from tests.observed.programs import Prometheus, prometheus
from tests.replicas import wait_for
from tests.webserver import WebServer, database_url, serving
from tests.world import furnish

DEPLOY = Path(__file__).parents[2] / "deploy"
PERIOD = "1s"
# Grafana takes at least four periods.
RATE_INTERVAL = "4s"

pytestmark = [pytest.mark.processes, pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("warm")]


def configure(folder: Path, server: WebServer) -> Path:
    """Write the sample with the addresses of here, and with rules that wait for a second instead of minutes."""
    token = StringIO()
    call_command("createtoken", "--user", "prometheus", "--role", "viewer", stdout=token)
    (folder / "clusteragent.token").write_text(token.getvalue())
    rules = yaml.safe_load((DEPLOY / "grafana/alerts.yaml").read_text())
    for rule in [rule for group in rules["groups"] for rule in group["rules"]]:
        rule["for"] = PERIOD
    (folder / "alerts.yaml").write_text(yaml.safe_dump(rules))
    text = (DEPLOY / "prometheus/prometheus.yml").read_text()
    for sample, here in {
        "/etc/prometheus/clusteragent.pem": folder / "cert.pem",
        "/etc/prometheus": folder,
        "clusteragent:5006": f"localhost:{server.port}",
    }.items():
        assert sample in text
        text = text.replace(sample, str(here))
    config = yaml.safe_load(text) | {"global": {"scrape_interval": PERIOD, "evaluation_interval": PERIOD}}
    (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
    return folder / "prometheus.yml"


class Observed:
    """A web server of operators, and the Prometheus that scrapes it. `server_stops` ends the web server."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self._serving = stack.enter_context(ExitStack())
        self.server = self._serving.enter_context(serving(database_url(), folder, whom="operators"))
        self.prometheus: Prometheus = stack.enter_context(prometheus(configure(folder, self.server), folder))

    def stop_server(self) -> None:
        """End the web server."""
        self._serving.close()

    def fires(self, *names: str) -> None:
        """Wait until these alerts fire, and no others."""
        wait_for(f"{names} fire", lambda: self.prometheus.firing() == set(names))


@pytest.fixture
def observed(tmp_path: Path) -> Iterator[Observed]:
    with ExitStack() as stack:
        yield Observed(tmp_path, stack)


def when_well(look: Any) -> Any:
    """Look, while passes go on and ash reports."""
    report("ash")
    Hearing.objects.note_pass()
    return look()


def test_alerts_fire_when_they_should(observed: Observed) -> None:
    ours = observed.prometheus
    wait_for("the rules are evaluated", lambda: when_well(ours.has_evaluated))
    wait_for("it is scraped", lambda: when_well(lambda: ours.query("cluster_checks_nodes_reporting")))
    assert ours.targets() == {f"localhost:{observed.server.port}": "up"}
    wait_for("no alert fires", lambda: when_well(lambda: not ours.firing()))

    silence("ash")
    Hearing.objects.update(last_pass=ago(timedelta(minutes=1)))
    observed.fires("ClusterAgentNoPass", "ClusterChecksNodeSilent")

    wait_for("all is well again", lambda: when_well(lambda: not ours.firing()))
    observed.stop_server()
    observed.fires("ClusterAgentUnreachable")
    [health] = ours.targets().values()
    assert health.startswith("down")


def queries() -> list[str]:
    """What the dashboard asks, with all of its variables chosen."""
    panels = json.loads((DEPLOY / "grafana/dashboard.json").read_text())["panels"]
    chosen = {"$__rate_interval": RATE_INTERVAL, "$job": "clusteragent"}
    asked = [target["expr"] for panel in panels for target in panel["targets"]]
    for variable, value in chosen.items():
        asked = [expression.replace(variable, value) for expression in asked]
    assert not [expression for expression in asked if "$" in expression]
    return asked


def trouble() -> None:
    """Let everything that the dashboard shows be there: moves, measured costs, tasks, errors and held removals."""
    furnish(str, "ann", "url: http://shop")
    Cost.objects.bulk_create(
        [Cost(config_id=pk, workers_needed=0.5) for pk in Config.objects.values_list("pk", flat=True)]
    )
    TaskRun.objects.note("scan", 0.5)
    # All nodes are cordoned so far.
    dispatcher.schedule([sent("nowhere")])
    Config.objects.dangling().update(unscheduled=True)
    Node.objects.cordon(schedulable=True)
    errors = [{"where": "redisdb.d/conf.yaml", "line": 3, "error": "no mapping"}]
    Source.objects.update_or_create(name="file", defaults={"errors": errors, "held_removals": ["redisdb"]})


def has_series(prometheus: Prometheus, expression: str) -> bool:
    """Whether a query has a series. Rates need moves between two scrapes, so a config is placed."""
    dispatcher.schedule([sent(str(uuid.uuid4()))])
    return bool(prometheus.query(expression))


def test_the_dashboard_shows_something_everywhere(observed: Observed) -> None:
    trouble()
    for expression in queries():
        wait_for(f"{expression} returns series", functools.partial(has_series, observed.prometheus, expression))
