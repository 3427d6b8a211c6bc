"""The Datadog Cluster Agent's options: which are honoured here, which have no effect and why, and which names are unknown.

A cluster that moves to this server keeps the environment of the old one. Every variable of it is accounted for.
"""

import difflib
import os
import re
from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase

import structlog

from clusteragent.lib import conf, options  # noqa: F401 - conf reads all options, so that options.READ has them

_LISTEN = "CLUSTERAGENT_BIND and CLUSTERAGENT_ADMIN_BIND say where to listen"
_AGENTS = "node agents and runners read it: set it there"
_LEADER = "leadership is a lock in PostgreSQL, and every replica answers every call itself"
_SOURCES = "configs come from the folders of CLUSTERAGENT_CONFD, the admin and the operators' API"
_SENT = "nothing is sent to Datadog from here"
_LOGS = "logs go to the standard error, as DD_LOG_LEVEL and CLUSTERAGENT_LOG_FORMAT say"
_METRICS = "/metrics is on the operators' port"
_NAMES = "CLUSTERAGENT_REPLICA names this replica"
_KUBERNETES = "nothing is read from Kubernetes"
_OTHER_DUTY = "it is for another duty than cluster checks"
_NO_OPTION = "it is no option of cluster checks"

# {pattern of names: why these options of the peer have no effect here}; the first pattern that matches counts. Options that
# conf.py reads are honoured, even where a pattern covers them.
WITHOUT_EFFECT: Mapping[str, str] = {
    "DD_CLUSTER_CHECKS_REBALANCE_WITH_UTILIZATION": "balancing is always by utilization",
    "DD_CLUSTER_CHECKS_CRD_COLLECTION": _KUBERNETES,
    "DD_CLUSTER_CHECKS_SUPPORT_HYBRID_IGNORE_AD_TAGS": "node agents add the tags of autodiscovery",
    "DD_EXPERIMENTAL_CLC_RUNNER_GROUPS": "DD_CLUSTER_CHECKS_RUNNER_GROUPS is read instead",
    "DD_EXPERIMENTAL_CLC_RUNNER_*": _AGENTS,
    "DD_CLC_RUNNER_*": _AGENTS,
    "DD_CHECK_RUNNERS": _AGENTS,
    "DD_CHECKS_TAG_CARDINALITY": _AGENTS,
    "DD_IGNORE_AUTODISCOVERY_TAGS": _AGENTS,
    # The server.
    "DD_CLUSTER_AGENT_CMD_PORT": _LISTEN,
    "DD_CLUSTER_AGENT_CMD_HOST": _LISTEN,
    "DD_CMD_HOST": _LISTEN,
    "DD_CMD_PORT": _LISTEN,
    "DD_BIND_HOST": _LISTEN,
    "DD_AGENT_IPC_*": _LISTEN,
    "DD_HEALTH_PORT": "/healthz and /readyz are on both ports",
    "DD_METRICS_PORT": _METRICS,
    "DD_EXPVAR_PORT": _METRICS,
    "DD_TELEMETRY_*": _METRICS,
    "DD_CLUSTER_AGENT_ALLOW_LEGACY_TLS": "TLS is 1.2 at least",
    "DD_CLUSTER_TRUST_CHAIN_*": "cert.pem and key.pem in CLUSTERAGENT_VAR are the certificate",
    "DD_IPC_CERT_FILE_PATH": "cert.pem and key.pem in CLUSTERAGENT_VAR are the certificate",
    "DD_AUTH_TOKEN_FILE_PATH": "CLUSTERAGENT_LOCAL_TOKEN is the token of the local routes",
    "DD_AUTH_INIT_TIMEOUT": "CLUSTERAGENT_LOCAL_TOKEN is the token of the local routes",
    "DD_CLUSTER_AGENT_SERVER_*": "how long a call may take is bounded here by itself",
    "DD_CLUSTER_AGENT_TRACING_*": "nothing is traced or profiled",
    "DD_INTERNAL_PROFILING_*": "nothing is traced or profiled",
    "DD_CLUSTER_AGENT_ENABLED": _AGENTS,
    "DD_CLUSTER_AGENT_URL": _AGENTS,
    "DD_CLUSTER_AGENT_KUBERNETES_SERVICE_NAME": _AGENTS,
    "DD_CLUSTER_AGENT_CLIENT_RECONNECT_PERIOD_SECONDS": _AGENTS,
    "DD_CLUSTER_AGENT_REFRESH_ON_CACHE_MISS": _AGENTS,
    "DD_CLUSTER_AGENT_TAGGING_FALLBACK": _AGENTS,
    # The leader.
    "DD_CLUSTER_AGENT_MAX_LEADER_*": _LEADER,
    "DD_LEADER_ELECTION": _LEADER,
    "DD_LEADER_ELECTION_*": _LEADER,
    "DD_LEADER_LEASE_*": _LEADER,
    # Where configs come from.
    "DD_CONFD_PATH": _SOURCES,
    "DD_CONFD_DCA_PATH": _SOURCES,
    "DD_CONFIG_PROVIDERS": _SOURCES,
    "DD_EXTRA_CONFIG_PROVIDERS": _SOURCES,
    "DD_LISTENERS": _SOURCES,
    "DD_EXTRA_LISTENERS": _SOURCES,
    "DD_AUTOCONFIG_*": _SOURCES,
    "DD_AUTOCONF_*": _SOURCES,
    "DD_AC_*": _SOURCES,
    "DD_AD_*": _SOURCES,
    "DD_CONTAINER_*CLUDE*": _SOURCES,
    "DD_PROMETHEUS_SCRAPE_*": _SOURCES,
    "DD_IGNORE_AUTO_CONF": _SOURCES,
    "DD_INSTRUMENTATION_CRD_CONTROLLER_ENABLED": _SOURCES,
    "DD_SECRET_BACKEND_*": "ENC[…] passes through to the agents, which resolve it",
    "DD_ENABLED_RFC1123_COMPLIANT_CLUSTER_NAME_TAG": "DD_CLUSTER_NAME can't be a name that it would change",
    # What an agent has besides: names, logs, a way to Datadog.
    "DD_ENV": "DD_TAGS is what checks are tagged with",
    "DD_SERVICE": "DD_TAGS is what checks are tagged with",
    "DD_VERSION": "DD_TAGS is what checks are tagged with",
    "DD_HOSTNAME*": _NAMES,
    "DD_NODE_NAME": _NAMES,
    "DD_POD_NAME": _NAMES,
    "DD_POD_*": _NAMES,
    "DD_LOG_*": _LOGS,
    "DD_SYSLOG_*": _LOGS,
    "DD_DISABLE_FILE_LOGGING": _LOGS,
    "DD_API_KEY": _SENT,
    "DD_APP_KEY": _SENT,
    "DD_SITE": _SENT,
    "DD_URL": _SENT,
    "DD_DD_URL": _SENT,
    "DD_ADDITIONAL_ENDPOINTS": _SENT,
    "DD_PROXY_*": _SENT,
    "DD_FORWARDER_*": _SENT,
    "DD_SERIALIZER_*": _SENT,
    "DD_SKIP_SSL_VALIDATION": _SENT,
    "DD_MIN_TLS_VERSION": _SENT,
    # Other duties.
    "DD_KUBE_*": _KUBERNETES,
    "DD_KUBERNETES_*": _KUBERNETES,
    "DD_KUBELET_*": _KUBERNETES,
    "DD_COLLECT_KUBERNETES_EVENTS": _KUBERNETES,
    "DD_HPA_*": _KUBERNETES,
    "DD_ADMISSION_CONTROLLER_*": _OTHER_DUTY,
    "DD_APM_*": _OTHER_DUTY,
    "DD_AUTOSCALING_*": _OTHER_DUTY,
    "DD_CLOUD_*": _OTHER_DUTY,
    "DD_CLUSTER_AGENT_*": _OTHER_DUTY,
    "DD_COMPLIANCE_CONFIG_*": _OTHER_DUTY,
    "DD_EXTERNAL_METRICS_*": _OTHER_DUTY,
    "DD_CSI_*": _OTHER_DUTY,
    "DD_INSTRUMENTATION_*": _OTHER_DUTY,
    "DD_LANGUAGE_DETECTION_*": _OTHER_DUTY,
    "DD_ORCHESTRATOR_*": _OTHER_DUTY,
    "DD_PRIVATE_ACTION_RUNNER_*": _OTHER_DUTY,
    "DD_REMOTE_CONFIGURATION_*": _OTHER_DUTY,
    "DD_RUNTIME_SECURITY_CONFIG_*": _OTHER_DUTY,
    "DD_*": _NO_OPTION,
}

# Wide patterns. A name that matches one of them only, and is nearly one of our options, is a misspelling of that option.
_VAGUE = {"DD_*", "DD_CLUSTER_AGENT_*"}
# Prefixes of our own names: an unknown name with such a prefix is a mistake.
_OURS = ("DD_CLUSTER_CHECKS_", "CLUSTERAGENT_")
# Variables that web servers set for their own processes.
_INTERNAL = {"CLUSTERAGENT_PORT", "CLUSTERAGENT_WEB_PARENT"}
# Variables that Kubernetes sets in every pod when there is a Service called clusteragent.
_of_a_service = re.compile(r"CLUSTERAGENT_(SERVICE_HOST|SERVICE_PORT\w*|PORT_\d+_(TCP|UDP)\w*)").fullmatch
_NEAR, _NEARLY_THE_SAME = 0.5, 0.9

log = structlog.get_logger()


def honoured(environ: Mapping[str, str] = os.environ) -> list[str]:
    """Return the names of the peer's variables that are set and that the program reads."""
    return [name for name in _set(environ) if name.startswith("DD_") and _is_read(name)]


def without_effect(environ: Mapping[str, str] = os.environ) -> dict[str, list[str]]:
    """Return {reason: names} of the peer's variables that are set and have no effect here."""
    found: dict[str, list[str]] = {}
    mistaken = unknown(environ)
    for name in _set(environ):
        if name.startswith("DD_") and not _is_read(name) and name not in mistaken:
            found.setdefault(WITHOUT_EFFECT[_pattern(name)], []).append(name)
    return found


def unknown(environ: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Return {name: the most similar option, or ""} of variables that are set and are nobody's option."""
    return {name: _nearest(name, _NEAR) for name in _set(environ) if _is_mistaken(name)}


def line(environ: Mapping[str, str] = os.environ) -> str:
    """Say in one line which variables of the peer have no effect here and why; empty when there are none."""
    found = without_effect(environ)
    others = found.pop(_NO_OPTION, [])
    reasons = "; ".join(f"{', '.join(names)} ({reason})" for reason, names in found.items())
    known = [f"Known and without effect here: {reasons}."] if reasons else []
    return " ".join([*known, *([_no_options(others)] if others else [])])


def sentences(environ: Mapping[str, str] = os.environ) -> list[str]:
    """Say the same as `line`, in one sentence for each reason."""
    return [
        _no_options(names)
        if reason == _NO_OPTION
        else f"Known and without effect here, because {reason}: {', '.join(names)}."
        for reason, names in without_effect(environ).items()
    ]


def _no_options(names: Iterable[str]) -> str:
    return f"No option of cluster checks, and without effect here: {', '.join(names)}."


def log_without_effect() -> None:
    """Log `line` when a process starts."""
    if text := line():
        log.info("options_without_effect", told=text)


def _set(environ: Mapping[str, str]) -> Iterable[str]:
    return sorted(
        name for name, value in environ.items() if value.strip() and name.startswith(("DD_", "CLUSTERAGENT_"))
    )


def _is_read(name: str) -> bool:
    return {name, name.removesuffix("_FILE")} & options.READ != set()


def _is_mistaken(name: str) -> bool:
    if _is_read(name) or name in _INTERNAL or _of_a_service(name):
        return False
    pattern = _pattern(name)
    if pattern == "" or (pattern in _VAGUE and name.upper().startswith(_OURS)):
        return True
    return pattern in _VAGUE and bool(_nearest(name, _NEARLY_THE_SAME))


def _pattern(name: str) -> str:
    """Return the first pattern of the table that the name matches; empty for a name that is not the peer's."""
    return next((pattern for pattern in WITHOUT_EFFECT if fnmatchcase(name, pattern)), "")


def _nearest(name: str, likeness: float) -> str:
    """Return the option with the most similar name, if it is similar enough; else empty.

    Case and a common prefix do not count.
    """
    name = name.upper()
    beginning = next((each for each in _OURS if name.startswith(each)), "")
    rests = sorted(each.removeprefix(beginning) for each in options.READ if each.startswith(beginning))
    found = difflib.get_close_matches(name.removeprefix(beginning), rests, 1, likeness)
    return beginning + found[0] if found else ""
