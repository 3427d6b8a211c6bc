"""The program's options: typed, with units and defaults, read once from the environment.

Names, defaults and forms are the Datadog Cluster Agent's where it has the option (`DD_...`); our own begin with
`CLUSTERAGENT_`. Every option may also be given as a file, `NAME_FILE`. Code reads `conf.NAME`, never a copy.
"""

import socket
from datetime import timedelta
from pathlib import Path

from clusteragent.lib.options import (
    OptionError,
    bind,
    choice,
    cluster_name,
    database,
    duration,
    flag,
    groups,
    integer,
    networks,
    number,
    option,
    origin,
    secret,
    text,
    url,
    words,
)
from clusteragent.lib.processes import IS_CHECKOUT

__all__ = ["OptionError"]

# Datadog's names of levels, and Python's.
_LEVELS = {
    "trace": "DEBUG", "debug": "DEBUG", "info": "INFO", "warn": "WARNING", "warning": "WARNING", "error": "ERROR",
    "critical": "CRITICAL", "off": "CRITICAL",
}  # fmt: skip

# Where things are and listen.
# In a checkout they lie in the folder that it is called in. An installed command is called in any folder.
DEFAULT_VAR = Path("var" if IS_CHECKOUT else "/var/lib/clusteragent").absolute()
VAR = Path(text("CLUSTERAGENT_VAR", str(DEFAULT_VAR))).absolute()
BIND = bind("CLUSTERAGENT_BIND", "127.0.0.1:5005")
ADMIN_BIND = bind("CLUSTERAGENT_ADMIN_BIND", "127.0.0.1:5006")
ADMIN_HOSTS = words("CLUSTERAGENT_ADMIN_HOSTS") or ("localhost", "127.0.0.1", "[::1]")
# The URL that operators' browsers show, where a proxy stands in between. Whatever Host and scheme arrive, it is taken for them.
ADMIN_URL = origin("CLUSTERAGENT_ADMIN_URL")
# Proxies whose X-Forwarded-For says where an operator's call comes from.
TRUSTED_PROXIES = networks("CLUSTERAGENT_TRUSTED_PROXIES", ())
# How long an operator stays logged in: at most, and without a call.
SESSION_AGE = duration("CLUSTERAGENT_SESSION_AGE", timedelta(hours=12), low=timedelta(minutes=1))
SESSION_IDLE = duration("CLUSTERAGENT_SESSION_IDLE", timedelta(hours=1), low=timedelta(minutes=1))
# How long browsers use only HTTPS for the host's name, on every port; 0: no such rule.
HSTS_AGE = duration("CLUSTERAGENT_HSTS_AGE", timedelta(days=1))
# Processes of the agents' web server (operators' has one), and threads of each: a thread keeps one database connection.
WEB_WORKERS = integer("CLUSTERAGENT_WEB_WORKERS", 2, 1, 256)
WEB_THREADS = integer("CLUSTERAGENT_WEB_THREADS", 16, 1, 256)
ACCESS_LOG = flag("CLUSTERAGENT_ACCESS_LOG", False)
DATABASE_URL = database("DATABASE_URL")
# The same database, reached without the pooler: for sessions that hold a lock or listen.
DIRECT_DATABASE_URL = database("CLUSTERAGENT_DIRECT_DATABASE_URL")
_CONFD = "conf.d" if IS_CHECKOUT else "/etc/clusteragent/conf.d"
CONFD = tuple(Path(folder) for folder in text("CLUSTERAGENT_CONFD", _CONFD).split(":") if folder)
# Whether the folders were set explicitly: only then is a missing folder an error.
CONFD_GIVEN = bool(text("CLUSTERAGENT_CONFD", ""))
DEMO_NODES = integer("CLUSTERAGENT_DEMO_NODES", 0 if DATABASE_URL or CONFD_GIVEN else 3, 0, 1000)
# The port of the runners' stats API. For `make run` it is another one: a real agent on this machine may use 5005.
CLC_RUNNERS_PORT = integer("DD_CLUSTER_CHECKS_CLC_RUNNERS_PORT", 5015 if DEMO_NODES else 5005, 1, 65535)
REPLICA = text("CLUSTERAGENT_REPLICA", socket.gethostname())
LOG_FORMAT = choice("CLUSTERAGENT_LOG_FORMAT", "console", {"console": "console", "json": "json"})
LOG_LEVEL = choice("DD_LOG_LEVEL", "info", _LEVELS)

# Secrets. Empty until the first start makes them.
AUTH_TOKEN = secret("DD_CLUSTER_AGENT_AUTH_TOKEN", VAR / "cluster_agent.auth_token")
LOCAL_TOKEN = secret("CLUSTERAGENT_LOCAL_TOKEN", VAR / "auth_token")
SECRET_KEY = secret("CLUSTERAGENT_SECRET_KEY", VAR / "secret_key")

# Which nodes are alive.
NODE_EXPIRATION_TIMEOUT = duration(
    "DD_CLUSTER_CHECKS_NODE_EXPIRATION_TIMEOUT", timedelta(seconds=30), low=timedelta(seconds=1)
)
WARMUP_DURATION = duration("DD_CLUSTER_CHECKS_WARMUP_DURATION", timedelta(seconds=30))
BRAKE_FRACTION = number("CLUSTERAGENT_BRAKE_FRACTION", 0.5, high=1)
BRAKE_NODES = integer("CLUSTERAGENT_BRAKE_NODES", 3, 0, 1_000_000)
# A node that still reports this long after its goodbye did not leave: the goodbye is void. 0: a goodbye never becomes void.
GOODBYE_HOLDS = duration("CLUSTERAGENT_GOODBYE_HOLDS", timedelta(seconds=120))
# New node names that all replicas together accept a minute, and five times as many an hour. More are answered "try again".
NEW_NODES_A_MINUTE = integer("CLUSTERAGENT_NEW_NODES_A_MINUTE", 20_000, 1, 1_000_000)
LOST_NODE_RETENTION = duration("CLUSTERAGENT_LOST_NODE_RETENTION", timedelta(days=1))

# Which configs are dispatched, and how they are patched.
CLUSTER_CHECKS_ENABLED = flag("DD_CLUSTER_CHECKS_ENABLED", True)
EXCLUDE_CHECKS = frozenset(words("DD_CLUSTER_CHECKS_EXCLUDE_CHECKS"))
UNSCHEDULED_CHECK_THRESHOLD = max(
    duration("DD_CLUSTER_CHECKS_UNSCHEDULED_CHECK_THRESHOLD", timedelta(seconds=60)), NODE_EXPIRATION_TIMEOUT
)
GLOBAL_TAGS = (*words("DD_TAGS"), *words("DD_EXTRA_TAGS"), *words("DD_CLUSTER_CHECKS_EXTRA_TAGS"))
CLUSTER_NAME = cluster_name("DD_CLUSTER_NAME")
CLUSTER_TAG_NAME = text("DD_CLUSTER_CHECKS_CLUSTER_TAG_NAME", "cluster_name")
DISABLE_CLUSTER_NAME_TAG_KEY = flag("DD_DISABLE_CLUSTER_NAME_TAG_KEY", False)
ORCH_CLUSTER_ID = text("DD_ORCHESTRATOR_CLUSTER_ID", "")
KSM_SHARDING_ENABLED = flag("DD_CLUSTER_CHECKS_KSM_SHARDING_ENABLED", False)
INSTANCE_SHARDING_ENABLED = flag("DD_CLUSTER_CHECKS_INSTANCE_SHARDING_ENABLED", False)
INSTANCE_SHARDING_EXCLUDE_CHECKS = frozenset(words("DD_CLUSTER_CHECKS_INSTANCE_SHARDING_EXCLUDE_CHECKS"))

# Placement and balancing.
RUNNER_GROUPS = groups("DD_CLUSTER_CHECKS_RUNNER_GROUPS")
PLACEMENT_PREFER = choice("CLUSTERAGENT_PLACEMENT_PREFER", "runners", {"runners": "runners", "any": "any"})
EXCLUDE_CHECKS_FROM_DISPATCHING = frozenset(words("DD_CLUSTER_CHECKS_EXCLUDE_CHECKS_FROM_DISPATCHING"))
# The leader balances automatically only when both are on. Without the first, the peer's rebalance route is closed too.
ADVANCED_DISPATCHING_ENABLED = flag("DD_CLUSTER_CHECKS_ADVANCED_DISPATCHING_ENABLED", True)
REBALANCE_ENABLED = flag("CLUSTERAGENT_REBALANCE_ENABLED", True)
REBALANCE_PERIOD = duration("DD_CLUSTER_CHECKS_REBALANCE_PERIOD", timedelta(minutes=1), low=timedelta(seconds=1))
REBALANCE_MIN_IMPROVEMENT = integer("DD_CLUSTER_CHECKS_REBALANCE_MIN_PERCENTAGE_IMPROVEMENT", 10, 0, 100)
# The share of all configs that may move in one period. It limits how many checks restart at once.
REBALANCE_BUDGET = number("CLUSTERAGENT_REBALANCE_BUDGET", 0.05, high=1)
# How long a config that was moved stays on its new node.
REBALANCE_COOLDOWN = duration("CLUSTERAGENT_REBALANCE_COOLDOWN", timedelta(minutes=10))
# How long nothing is balanced after a node joined or was lost, unless a node is overloaded.
REBALANCE_SETTLING = duration("CLUSTERAGENT_REBALANCE_SETTLING", timedelta(seconds=90))
STICKINESS_ENABLED = flag("DD_CLUSTER_CHECKS_STICKINESS_ENABLED", False)
STICKINESS_FACTOR = number("DD_CLUSTER_CHECKS_STICKINESS_FACTOR", 4.0)
STICKINESS_UPPER_LIMIT = number("DD_CLUSTER_CHECKS_STICKINESS_UPPER_LIMIT", 1.0)
STICKINESS_LOWER_LIMIT = number("DD_CLUSTER_CHECKS_STICKINESS_LOWER_LIMIT", 0.05)

# Runners are called at the addresses that they report, and receive our token. So only addresses in these ranges are called.
_PRIVATE = ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "fc00::/7")
RUNNER_NETWORKS = networks(
    "CLUSTERAGENT_RUNNER_NETWORKS", (*_PRIVATE, "127.0.0.0/8", "::1/128") if DEMO_NODES else _PRIVATE
)
# Workers of a node that did not report how many it has: the Datadog Agent's default.
DEFAULT_WORKERS = 4
# The most workers that count of what a runner reports. So no runner attracts more configs than one of this size.
RUNNER_MAX_WORKERS = integer("CLUSTERAGENT_RUNNER_MAX_WORKERS", 64, 1, 100_000)

# Sources and the ledger.
SCAN_PERIOD = duration("CLUSTERAGENT_SCAN_PERIOD", timedelta(seconds=10), low=timedelta(seconds=1))
# How long a config that only another replica's scans had is kept after that replica's last scan.
REMOVAL_GRACE = duration("CLUSTERAGENT_REMOVAL_GRACE", timedelta(minutes=10))
AD_ALLOWED_ENV_VARS = frozenset(name.lower() for name in words("DD_AD_ALLOWED_ENV_VARS"))
AD_DISABLE_ENV_VAR_RESOLUTION = flag("DD_AD_DISABLE_ENV_VAR_RESOLUTION", False)
# Prometheus HTTP service discovery: JSON, [{"url": …, "check_template": …, "exclude_filter": …}], and the older form for one URL.
HTTP_SD_CONFIGS = text("DD_PROMETHEUS_HTTP_SD_CONFIGS", "")
HTTP_SD_URL = text("DD_PROMETHEUS_HTTP_SD_URL", "")
HTTP_SD_CHECK_TEMPLATE = text("DD_PROMETHEUS_HTTP_SD_CHECK_TEMPLATE", "")
# Kubernetes. auto: the cluster of the kubeconfig, else the one that this process runs in, if any.
KUBERNETES = choice("CLUSTERAGENT_KUBERNETES", "auto", {"auto": "auto", "on": "on", "off": "off"})
KUBECONFIG = option("CLUSTERAGENT_KUBECONFIG", None, lambda raw: Path(raw).absolute(), "the path of a kubeconfig file")
KUBERNETES_USE_ENDPOINT_SLICES = flag("DD_KUBERNETES_USE_ENDPOINT_SLICES", True)
# Endpoints that are not ready, or about to end, are checked, too.
KUBERNETES_IGNORE_READINESS = flag("DD_KUBERNETES_ENDPOINT_SLICES_IGNORE_READINESS", False)
# Handles of Secrets are resolved here. Otherwise they pass through, and node agents may resolve them.
KUBERNETES_SECRETS = flag("CLUSTERAGENT_KUBERNETES_SECRETS", False)
PROMETHEUS_SCRAPE_ENABLED = flag("DD_PROMETHEUS_SCRAPE_ENABLED", False)
PROMETHEUS_SCRAPE_SERVICE_ENDPOINTS = flag("DD_PROMETHEUS_SCRAPE_SERVICE_ENDPOINTS", False)
PROMETHEUS_SCRAPE_CHECKS = text("DD_PROMETHEUS_SCRAPE_CHECKS", "")
PROMETHEUS_SCRAPE_VERSION = integer("DD_PROMETHEUS_SCRAPE_VERSION", 1, 1, 2)
# Services by namespace and name.
CONTAINER_INCLUDE = words("DD_CONTAINER_INCLUDE")
CONTAINER_EXCLUDE = words("DD_CONTAINER_EXCLUDE")
CONTAINER_INCLUDE_METRICS = words("DD_CONTAINER_INCLUDE_METRICS")
CONTAINER_EXCLUDE_METRICS = words("DD_CONTAINER_EXCLUDE_METRICS")
LEDGER_RETENTION = duration("CLUSTERAGENT_LEDGER_RETENTION", timedelta(days=30), low=timedelta(hours=1))

# Metrics and messages for operators' tools.
METRICS_PUBLIC = flag("CLUSTERAGENT_METRICS_PUBLIC", False)
# A series for each check ID: cluster_checks_configs_info.
METRICS_CONFIGS_INFO = flag("CLUSTERAGENT_METRICS_CONFIGS_INFO", True)
# Whoever knows the URL can write to its channel, so it is as secret as a token.
WEBHOOK = url("CLUSTERAGENT_WEBHOOK")
