"""The Datadog Cluster Agent's options: which are honoured here, which have no effect and why, and which names are unknown.

A cluster that moves to this server keeps the environment of the old one. Every variable of it is accounted for.
"""

import os
import re
from collections.abc import Iterable, Mapping, Sequence

import structlog

from clusteragent.lib import conf, options, spelling  # noqa: F401 - conf reads all options, so that options.READ has them
from clusteragent.lib.patterns import fits

_NO_OPTION = "it is no option of cluster checks"
# {why options of the peer have no effect here: patterns of their names}. The first pattern that matches a name counts. Options
# that conf.py reads are honoured, even where a pattern covers them.
_REASONS: Mapping[str, Sequence[str]] = {
    "balancing is always by utilization": ["DD_CLUSTER_CHECKS_REBALANCE_WITH_UTILIZATION"],
    "node agents add the tags of autodiscovery": ["DD_CLUSTER_CHECKS_SUPPORT_HYBRID_IGNORE_AD_TAGS"],
    "DD_CLUSTER_CHECKS_RUNNER_GROUPS is read instead": ["DD_EXPERIMENTAL_CLC_RUNNER_GROUPS"],
    "node agents and runners read it: set it there": [
        "DD_EXPERIMENTAL_CLC_RUNNER_*", "DD_CLC_RUNNER_*", "DD_CHECK_RUNNERS", "DD_CHECKS_TAG_CARDINALITY",
        "DD_IGNORE_AUTODISCOVERY_TAGS", "DD_CLUSTER_AGENT_ENABLED", "DD_CLUSTER_AGENT_URL",
        "DD_CLUSTER_AGENT_KUBERNETES_SERVICE_NAME", "DD_CLUSTER_AGENT_CLIENT_RECONNECT_PERIOD_SECONDS",
        "DD_CLUSTER_AGENT_REFRESH_ON_CACHE_MISS", "DD_CLUSTER_AGENT_TAGGING_FALLBACK",
    ],
    # The server.
    "CLUSTERAGENT_BIND and CLUSTERAGENT_ADMIN_BIND say where to listen": [
        "DD_CLUSTER_AGENT_CMD_PORT", "DD_CLUSTER_AGENT_CMD_HOST", "DD_CMD_HOST", "DD_CMD_PORT", "DD_BIND_HOST", "DD_AGENT_IPC_*",
    ],
    "/healthz and /readyz are on both ports": ["DD_HEALTH_PORT"],
    "/metrics is on the operators' port": ["DD_METRICS_PORT", "DD_EXPVAR_PORT", "DD_TELEMETRY_*"],
    "TLS is 1.2 at least": ["DD_CLUSTER_AGENT_ALLOW_LEGACY_TLS"],
    "cert.pem and key.pem in CLUSTERAGENT_VAR are the certificate": ["DD_CLUSTER_TRUST_CHAIN_*", "DD_IPC_CERT_FILE_PATH"],
    "CLUSTERAGENT_LOCAL_TOKEN is the token of the local routes": ["DD_AUTH_TOKEN_FILE_PATH", "DD_AUTH_INIT_TIMEOUT"],
    "how long a call may take is bounded here by itself": ["DD_CLUSTER_AGENT_SERVER_*"],
    "nothing is traced or profiled": ["DD_CLUSTER_AGENT_TRACING_*", "DD_INTERNAL_PROFILING_*"],
    "leadership is a lock in PostgreSQL, and every replica answers every call itself": [
        "DD_CLUSTER_AGENT_MAX_LEADER_*", "DD_LEADER_ELECTION", "DD_LEADER_ELECTION_*", "DD_LEADER_LEASE_*",
    ],
    # Where configs come from.
    "configs come from the folders of CLUSTERAGENT_CONFD, from Kubernetes, the admin and the operators' API": [
        "DD_CONFD_PATH", "DD_CONFD_DCA_PATH", "DD_CONFIG_PROVIDERS", "DD_EXTRA_CONFIG_PROVIDERS", "DD_LISTENERS",
        "DD_EXTRA_LISTENERS", "DD_AUTOCONFIG_*", "DD_AUTOCONF_*", "DD_AC_*", "DD_AD_*", "DD_CONTAINER_*CLUDE*",
        "DD_PROMETHEUS_SCRAPE_*", "DD_IGNORE_AUTO_CONF", "DD_INSTRUMENTATION_CRD_CONTROLLER_ENABLED",
    ],
    "ENC[…] passes through to the agents, which resolve it": ["DD_SECRET_BACKEND_*"],
    "DD_CLUSTER_NAME can't be a name that it would change": ["DD_ENABLED_RFC1123_COMPLIANT_CLUSTER_NAME_TAG"],
    # What an agent has besides: names, logs, a way to Datadog.
    "DD_TAGS is what checks are tagged with": ["DD_ENV", "DD_SERVICE", "DD_VERSION"],
    "CLUSTERAGENT_REPLICA names this replica": ["DD_HOSTNAME*", "DD_NODE_NAME", "DD_POD_NAME", "DD_POD_*"],
    "logs go to the standard error, as DD_LOG_LEVEL and CLUSTERAGENT_LOG_FORMAT say": [
        "DD_LOG_*", "DD_SYSLOG_*", "DD_DISABLE_FILE_LOGGING",
    ],
    "nothing is sent to Datadog from here": [
        "DD_API_KEY", "DD_APP_KEY", "DD_SITE", "DD_URL", "DD_DD_URL", "DD_ADDITIONAL_ENDPOINTS", "DD_PROXY_*", "DD_FORWARDER_*",
        "DD_SERIALIZER_*", "DD_SKIP_SSL_VALIDATION", "DD_MIN_TLS_VERSION",
    ],
    # Other duties.
    "of Kubernetes, Services and their endpoints are read alone": [
        "DD_CLUSTER_CHECKS_CRD_COLLECTION", "DD_KUBE_*", "DD_KUBERNETES_*", "DD_KUBELET_*", "DD_COLLECT_KUBERNETES_EVENTS",
        "DD_HPA_*",
    ],
    "it is for another duty than cluster checks": [
        "DD_ADMISSION_CONTROLLER_*", "DD_APM_*", "DD_AUTOSCALING_*", "DD_CLOUD_*", "DD_CLUSTER_AGENT_*",
        "DD_COMPLIANCE_CONFIG_*", "DD_EXTERNAL_METRICS_*", "DD_CSI_*", "DD_INSTRUMENTATION_*", "DD_LANGUAGE_DETECTION_*",
        "DD_ORCHESTRATOR_*", "DD_PRIVATE_ACTION_RUNNER_*", "DD_REMOTE_CONFIGURATION_*", "DD_RUNTIME_SECURITY_CONFIG_*",
    ],
    _NO_OPTION: ["DD_*"],
}  # fmt: skip
WITHOUT_EFFECT = {pattern: reason for reason, patterns in _REASONS.items() for pattern in patterns}

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
    return {name, name.removesuffix("_FILE")} & options.READ.keys() != set()


def _is_mistaken(name: str) -> bool:
    if _is_read(name) or name in _INTERNAL or _of_a_service(name):
        return False
    pattern = _pattern(name)
    if pattern == "" or (pattern in _VAGUE and name.upper().startswith(_OURS)):
        return True
    return pattern in _VAGUE and bool(_nearest(name, _NEARLY_THE_SAME))


def _pattern(name: str) -> str:
    """Return the first pattern of the table that the name matches; empty for a name that is not the peer's."""
    return next((pattern for pattern in WITHOUT_EFFECT if fits(name, pattern)), "")


def _nearest(name: str, likeness: float) -> str:
    """Return the option with the most similar name, if it is similar enough; else empty.

    Case and a common prefix do not count.
    """
    name = name.upper()
    beginning = next((each for each in _OURS if name.startswith(each)), "")
    rests = sorted(each.removeprefix(beginning) for each in options.READ if each.startswith(beginning))
    found = spelling.nearest(name.removeprefix(beginning), rests, likeness)
    return beginning + found if found else ""
