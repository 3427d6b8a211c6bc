"""What the program's options say of Kubernetes."""

import os
from dataclasses import replace

from checks.sources.kubernetes import filters, prometheus
from checks.sources.kubernetes.configs import Options
from checks.sources.kubernetes.filters import Filters, InvalidFilter
from checks.sources.kubernetes.prometheus import InvalidScrapes, Scraping
from checks.sources.kubernetes.secrets import Secrets
from checks.sources.kubernetes.variables import Environment
from clusteragent.lib import conf
from clusteragent.lib.options import OptionError


def is_watched() -> bool:
    """Return whether the leader watches a cluster: the one of the kubeconfig, or the one that it runs in."""
    return conf.KUBERNETES != "off" and bool(conf.KUBECONFIG or os.environ.get("KUBERNETES_SERVICE_HOST"))


def read() -> Options:
    """Return what decides besides the objects of the cluster. Raises OptionError."""
    return Options(
        environment=_environment(),
        scraping=_scraping() if conf.PROMETHEUS_SCRAPE_ENABLED else None,
        filters=tuple(one for one in _filters() if one != Filters()),
        ignores_readiness=conf.KUBERNETES_IGNORE_READINESS,
        secrets=Secrets() if conf.KUBERNETES_SECRETS else None,
    )


def for_files(how: Options) -> Options:
    """Return the same for templates in files, which may read the environment as other files do, and Secrets of all namespaces."""
    if how.secrets:
        how = replace(how, secrets=replace(how.secrets, everywhere=True))
    if conf.AD_DISABLE_ENV_VAR_RESOLUTION:
        return how
    return replace(how, environment=Environment(conf.AD_ALLOWED_ENV_VARS or None, os.environ))


def _environment() -> Environment:
    """Who annotates is not who runs this program: only variables that are named may be read, none if none is."""
    if conf.AD_DISABLE_ENV_VAR_RESOLUTION:
        return Environment()
    named = {name: value for name, value in os.environ.items() if name.lower() in conf.AD_ALLOWED_ENV_VARS}
    return Environment(conf.AD_ALLOWED_ENV_VARS, named)


def _scraping() -> Scraping:
    try:
        scrapes = prometheus.read_scrapes(conf.PROMETHEUS_SCRAPE_CHECKS)
    except InvalidScrapes as error:
        raise OptionError(f"DD_PROMETHEUS_SCRAPE_CHECKS: {error}") from None
    return Scraping(scrapes, conf.PROMETHEUS_SCRAPE_VERSION, conf.PROMETHEUS_SCRAPE_SERVICE_ENDPOINTS)


def _filters() -> list[Filters]:
    found = []
    for suffix in ("", "_METRICS"):
        include, exclude = (getattr(conf, f"CONTAINER_{word}{suffix}") for word in ("INCLUDE", "EXCLUDE"))
        try:
            found.append(filters.read(include, exclude))
        except InvalidFilter as error:
            raise OptionError(f"DD_CONTAINER_INCLUDE{suffix} or DD_CONTAINER_EXCLUDE{suffix}: {error}") from None
    return found
