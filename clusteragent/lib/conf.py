"""The program's options: typed, with units and defaults, read once from the environment.

Names, defaults and forms are the Datadog Cluster Agent's where it has the option (`DD_...`); our own begin with
`CLUSTERAGENT_`. Every option may also be given as a file, `NAME_FILE`. Code reads `conf.NAME`, never a copy.

The reference of options is made of this file (`make reference`): a block's first sentence is the title of its section, and `#:`
before an option says what it does.
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
    extra,
    flag,
    groups,
    headers,
    hosts,
    integer,
    issuer,
    label,
    listed,
    networks,
    number,
    origin,
    path,
    secret,
    secrets,
    selection,
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
#: The folder of tokens, the secret key, the certificate, logs and the embedded PostgreSQL.
#: Default: `/var/lib/clusteragent`; in a checkout `var`.
VAR = Path(text("CLUSTERAGENT_VAR", str(DEFAULT_VAR))).absolute()
#: Where the web server of node agents and local routes listens.
BIND = bind("CLUSTERAGENT_BIND", "127.0.0.1:5005")
#: Where the web server of the admin, the operators' API and metrics listens.
ADMIN_BIND = bind("CLUSTERAGENT_ADMIN_BIND", "127.0.0.1:5006")
#: The host names by which operators reach the admin. `.example.com` allows all names below it.
#: Default: `localhost 127.0.0.1 [::1]`.
ADMIN_HOSTS = words("CLUSTERAGENT_ADMIN_HOSTS") or ("localhost", "127.0.0.1", "[::1]")
#: The URL that operators' browsers show, where a proxy stands in between: `https://ca.example.com`. Whatever Host and scheme
#: arrive, it is taken for them.
ADMIN_URL = origin("CLUSTERAGENT_ADMIN_URL")
#: Addresses of the proxies whose `X-Forwarded-For` says where a call of an operator comes from.
TRUSTED_PROXIES = networks("CLUSTERAGENT_TRUSTED_PROXIES", ())
#: The same for calls of node agents: proxies that end their TLS and write that header anew. Behind one that passes TLS through an
#: agent could write it itself. It counts for the networks of [node tokens](../security.md#node-tokens) and for
#: `CLUSTERAGENT_ONE_ADDRESS`.
AGENT_PROXIES = networks("CLUSTERAGENT_AGENT_PROXIES", ())
#: An operator is logged out after this time.
SESSION_AGE = duration("CLUSTERAGENT_SESSION_AGE", timedelta(hours=12), low=timedelta(minutes=1))
#: An operator is logged out after this time without a call.
SESSION_IDLE = duration("CLUSTERAGENT_SESSION_IDLE", timedelta(hours=1), low=timedelta(minutes=1))
#: How long browsers use only HTTPS for the host's name, on all of its ports. 0: there is no such rule.
HSTS_AGE = duration("CLUSTERAGENT_HSTS_AGE", timedelta(days=1))
#: The PEM file of the certificate that both ports show, followed by those that lead to its authority. A changed file is taken up
#: [without a restart](../howto/certificates.md).
#: Default: `cert.pem` in `CLUSTERAGENT_VAR`, which the first start makes and renews.
CERTIFICATE = path("CLUSTERAGENT_CERTIFICATE", "a PEM file")
#: The PEM file of the certificate's key, which has no password.
#: Default: `key.pem` in `CLUSTERAGENT_VAR`.
CERTIFICATE_KEY = path("CLUSTERAGENT_CERTIFICATE_KEY", "a PEM file")
#: Host names and addresses by which the ports are reached, for the certificate that is made here. It always has this machine's
#: name, `localhost`, the addresses of `CLUSTERAGENT_BIND` and `CLUSTERAGENT_ADMIN_BIND`, and the host names of
#: `CLUSTERAGENT_ADMIN_HOSTS` and `CLUSTERAGENT_ADMIN_URL`.
CERTIFICATE_NAMES = hosts("CLUSTERAGENT_CERTIFICATE_NAMES")
#: Processes of the web server of node agents. That of operators has one.
WEB_WORKERS = integer("CLUSTERAGENT_WEB_WORKERS", 2, 1, 256)
#: Threads of each process of a web server, for calls other than heartbeats. Each keeps one connection to the database.
WEB_THREADS = integer("CLUSTERAGENT_WEB_THREADS", 16, 1, 256)
#: Log a line for each call of a node agent. Calls of operators are always logged.
ACCESS_LOG = flag("CLUSTERAGENT_ACCESS_LOG", False)
#: The PostgreSQL database that all replicas share. Several hosts are allowed.
#: Default: an embedded PostgreSQL.
DATABASE_URL = database("DATABASE_URL")
#: The same database, reached without the transaction pooler that `DATABASE_URL` leads to.
#: Default: `DATABASE_URL`.
DIRECT_DATABASE_URL = database("CLUSTERAGENT_DIRECT_DATABASE_URL")
_CONFD = "conf.d" if IS_CHECKOUT else "/etc/clusteragent/conf.d"
#: The folders of config files, separated by colons.
#: Default: `/etc/clusteragent/conf.d`; in a checkout `conf.d`.
CONFD = tuple(Path(folder) for folder in text("CLUSTERAGENT_CONFD", _CONFD).split(":") if folder)
# Whether the folders were set explicitly: only then is a missing folder an error.
CONFD_GIVEN = bool(text("CLUSTERAGENT_CONFD", ""))
#: Simulated node agents that `clusteragent all` starts: ash, birch, cedar, demo-4 and so on.
#: Default: `3`; `0` where `DATABASE_URL` or `CLUSTERAGENT_CONFD` is set.
DEMO_NODES = integer("CLUSTERAGENT_DEMO_NODES", 0 if DATABASE_URL or CONFD_GIVEN else 3, 0, 1000)
# For `make run` it is another port: a real agent on this machine may use 5005.
#: The port where runners serve their stats.
#: Default: `5005`; with simulated node agents `5015`.
CLC_RUNNERS_PORT = integer("DD_CLUSTER_CHECKS_CLC_RUNNERS_PORT", 5015 if DEMO_NODES else 5005, 1, 65535)
#: The name of this replica in logs and in the admin.
#: Default: the name of the host.
REPLICA = text("CLUSTERAGENT_REPLICA", socket.gethostname())
#: The form of the log's lines.
LOG_FORMAT = choice("CLUSTERAGENT_LOG_FORMAT", "console", {"console": "console", "json": "json"})
#: Lines of a lower level are not logged.
LOG_LEVEL = choice("DD_LOG_LEVEL", "info", _LEVELS)

# Secrets. Empty until the first start makes them.
#: The token of node agents. All replicas need the same.
#: Default: the file `cluster_agent.auth_token` in `CLUSTERAGENT_VAR`, which the first start makes.
AUTH_TOKEN = secret("DD_CLUSTER_AGENT_AUTH_TOKEN", VAR / "cluster_agent.auth_token")
#: `off`: the token of node agents opens nothing, and [node tokens](../security.md#node-tokens) alone do. All replicas need the
#: same.
SHARED_TOKEN_OPENS = choice("CLUSTERAGENT_SHARED_TOKEN", "on", {"on": "on", "off": "off"}) == "on"
#: Node tokens that the leader sends to runners when it asks for their stats, with blanks between: each to the nodes of its pool,
#: since a runner accepts only the token that it sends itself. Two of a pool while it is rotated. All replicas need the same.
#: Default: none; runners get the token of node agents, but those whose names a node token opens.
RUNNER_TOKENS = secrets("CLUSTERAGENT_RUNNER_TOKENS")
#: The token of the local routes, such as the state of the cluster. All replicas need the same.
#: Default: the file `auth_token` in `CLUSTERAGENT_VAR`, which the first start makes.
LOCAL_TOKEN = secret("CLUSTERAGENT_LOCAL_TOKEN", VAR / "auth_token")
#: The key that signs operators' sessions. All replicas need the same.
#: Default: the file `secret_key` in `CLUSTERAGENT_VAR`, which the first start makes.
SECRET_KEY = secret("CLUSTERAGENT_SECRET_KEY", VAR / "secret_key")

# Who may log in.
#: The OpenID provider by which people log in, as it names itself: `https://id.example.com/realms/ops`. Without one they log in by
#: passwords of this program.
OIDC_ISSUER = issuer("CLUSTERAGENT_OIDC_ISSUER")
#: The name by which the provider knows this program.
OIDC_CLIENT_ID = text("CLUSTERAGENT_OIDC_CLIENT_ID", "clusteragent")
#: The secret that the provider gave this program.
OIDC_CLIENT_SECRET = text("CLUSTERAGENT_OIDC_CLIENT_SECRET", "")
#: What the provider is asked for. Some give groups (`groups`), or what a login is confirmed with later (`offline_access`), only
#: when they are asked for it.
#: Default: `openid profile email`.
OIDC_SCOPES = words("CLUSTERAGENT_OIDC_SCOPES") or ("openid", "profile", "email")
#: The claim that lists a person's groups.
OIDC_GROUPS_CLAIM = text("CLUSTERAGENT_OIDC_GROUPS_CLAIM", "groups")
#: The provider is asked again after this time whether a person still has these groups.
OIDC_CONFIRMED_EACH = duration("CLUSTERAGENT_OIDC_CONFIRMED_EACH", timedelta(minutes=15), low=timedelta(seconds=1))
#: The addresses of an authenticating proxy, which names the person in `X-Forwarded-User` and the groups in `X-Forwarded-Groups`
#: (with commas in between). These headers have no effect from anywhere else. Empty: they have none at all.
LOGIN_PROXIES = networks("CLUSTERAGENT_LOGIN_PROXIES", ())
#: The groups of the provider, or of such a proxy, whose members have a role here: `{"operator": ["sre", "oncall"], "admin":
#: ["platform"]}`. Roles are viewer, operator, author, admin, and the groups that admins make. Who has none stays out.
GROUP_ROLES = listed("CLUSTERAGENT_GROUP_ROLES", "viewer")
#: Off: nobody logs in by a password, but by that of `clusteragent breakglass`.
LOCAL_LOGIN = flag("CLUSTERAGENT_LOCAL_LOGIN", True)

# Which nodes are alive.
#: A node that was not heard for this time is lost, and others get its configs.
NODE_EXPIRATION_TIMEOUT = duration(
    "DD_CLUSTER_CHECKS_NODE_EXPIRATION_TIMEOUT", timedelta(seconds=30), low=timedelta(seconds=1)
)
#: A new database places no config for this time after the first node reported. `make run` takes 3 seconds.
WARMUP_DURATION = duration("DD_CLUSTER_CHECKS_WARMUP_DURATION", timedelta(seconds=30))
#: What happens when calls in a node's name come from a second address while the first one still reports. `off`: nothing is
#: known of that but what agents say (`X-Real-Ip`). `tell`: the alert `contested`. `refuse`: that, and the second gets 403.
#: Addresses are those of connections, or what `CLUSTERAGENT_AGENT_PROXIES` say: `off` is for who is behind several other proxies,
#: or has addresses that are translated to changing ones. After a time of `off`, a node that moved meanwhile is refused, or told
#: of, until it was silent for the expiration timeout.
ONE_ADDRESS = choice("CLUSTERAGENT_ONE_ADDRESS", "tell", {name: name for name in ("off", "tell", "refuse")})
#: When more than this share of the nodes is silent at once, none expires for one and a half timeouts. 0: there is no brake.
BRAKE_FRACTION = number("CLUSTERAGENT_BRAKE_FRACTION", 0.5, high=1)
#: The brake needs this many silent nodes at least. 0: there is no brake.
BRAKE_NODES = integer("CLUSTERAGENT_BRAKE_NODES", 3, 0, 1_000_000)
#: What proves that a node is dead, so that it is lost at once. `port`: its report is overdue, or it said that it leaves, and the
#: port of its stats refuses connections. `pod`: its pod is gone (`CLUSTERAGENT_KUBERNETES_RUNNER_PODS`). `all`: each of them.
#: `off`: it is lost after the expiration timeout alone.
PROOF_OF_DEATH = choice("CLUSTERAGENT_PROOF_OF_DEATH", "all", {name: name for name in ("all", "port", "pod", "off")})
#: A node that still reports this long after its goodbye did not leave: the goodbye is void. 0: a goodbye never becomes void.
GOODBYE_HOLDS = duration("CLUSTERAGENT_GOODBYE_HOLDS", timedelta(seconds=120))
#: New node names that all replicas together accept a minute, and five times as many an hour. Others are told to try again.
NEW_NODES_A_MINUTE = integer("CLUSTERAGENT_NEW_NODES_A_MINUTE", 20_000, 1, 1_000_000)
#: A node that has been lost for this time is forgotten.
LOST_NODE_RETENTION = duration("CLUSTERAGENT_LOST_NODE_RETENTION", timedelta(days=1))

# Which configs are dispatched, and how they are patched.
#: Off: the calls of node agents for cluster checks are refused.
CLUSTER_CHECKS_ENABLED = flag("DD_CLUSTER_CHECKS_ENABLED", True)
#: Names of checks that are not dispatched.
EXCLUDE_CHECKS = frozenset(words("DD_CLUSTER_CHECKS_EXCLUDE_CHECKS"))
#: A config that no node has had for this time, and for the expiration timeout at least, is an alert.
UNSCHEDULED_CHECK_THRESHOLD = max(
    duration("DD_CLUSTER_CHECKS_UNSCHEDULED_CHECK_THRESHOLD", timedelta(seconds=60)), NODE_EXPIRATION_TIMEOUT
)
GLOBAL_TAGS = (
    #: Tags of every instance that is dispatched.
    *words("DD_TAGS"),
    #: More such tags.
    *words("DD_EXTRA_TAGS"),
    #: More such tags.
    *words("DD_CLUSTER_CHECKS_EXTRA_TAGS"),
)
#: The cluster's name, which every instance gets as a tag.
CLUSTER_NAME = cluster_name("DD_CLUSTER_NAME")
#: The key of the tag that has the cluster's name.
CLUSTER_TAG_NAME = text("DD_CLUSTER_CHECKS_CLUSTER_TAG_NAME", "cluster_name")
#: Leave out the tag `cluster_name`, and keep `kube_cluster_name`.
DISABLE_CLUSTER_NAME_TAG_KEY = flag("DD_DISABLE_CLUSTER_NAME_TAG_KEY", False)
#: The cluster's ID, which every instance gets as the tag `orch_cluster_id`.
ORCH_CLUSTER_ID = text("DD_ORCHESTRATOR_CLUSTER_ID", "")
#: Cut configs of `kubernetes_state_core` into several by what they collect.
KSM_SHARDING_ENABLED = flag("DD_CLUSTER_CHECKS_KSM_SHARDING_ENABLED", False)
#: Dispatch each instance of a config by itself.
INSTANCE_SHARDING_ENABLED = flag("DD_CLUSTER_CHECKS_INSTANCE_SHARDING_ENABLED", False)
#: Names of checks whose configs stay whole.
INSTANCE_SHARDING_EXCLUDE_CHECKS = frozenset(words("DD_CLUSTER_CHECKS_INSTANCE_SHARDING_EXCLUDE_CHECKS"))

# Placement and balancing.
#: Which checks are for nodes of which group alone. Other checks are for nodes without a group.
RUNNER_GROUPS = groups("DD_CLUSTER_CHECKS_RUNNER_GROUPS")
#: `runners`: node agents get nothing new while a cluster check runner lives. `any`: all nodes are alike.
PLACEMENT_PREFER = choice("CLUSTERAGENT_PLACEMENT_PREFER", "runners", {"runners": "runners", "any": "any"})
#: The label of nodes that names their failure domain, as a zone: nodes that have the same value may fail together. Rules spread
#: configs over domains, and the first page says what the loss of one would do.
DOMAIN_LABEL = label("CLUSTERAGENT_DOMAIN_LABEL", "zone")
#: What a planned move promises of its check. `overlap`: no gap, the former node runs it until the new one does. `strict`: never
#: two, the new node gets it when the former one has stopped it. `at-once`: nothing. Rules may say otherwise of their configs.
HANDOVER = choice("CLUSTERAGENT_HANDOVER", "overlap", {"overlap": "overlap", "strict": "strict", "at-once": "at-once"})
#: Names of checks that are placed, but never moved to balance the load.
EXCLUDE_CHECKS_FROM_DISPATCHING = frozenset(words("DD_CLUSTER_CHECKS_EXCLUDE_CHECKS_FROM_DISPATCHING"))
#: Off: the leader balances nothing of its own accord, and the Datadog Cluster Agent's rebalance route is closed.
ADVANCED_DISPATCHING_ENABLED = flag("DD_CLUSTER_CHECKS_ADVANCED_DISPATCHING_ENABLED", True)
#: The same, but the route stays open.
REBALANCE_ENABLED = flag("CLUSTERAGENT_REBALANCE_ENABLED", True)
#: The time between two rebalances.
REBALANCE_PERIOD = duration("DD_CLUSTER_CHECKS_REBALANCE_PERIOD", timedelta(minutes=1), low=timedelta(seconds=1))
#: A rebalance moves something when the standard deviation of utilization shrinks by this many percent.
REBALANCE_MIN_IMPROVEMENT = integer("DD_CLUSTER_CHECKS_REBALANCE_MIN_PERCENTAGE_IMPROVEMENT", 10, 0, 100)
#: The share of all configs that may move in one period, and for drains and pins in a minute; five configs may at least. It
#: limits how many checks restart at once.
REBALANCE_BUDGET = number("CLUSTERAGENT_REBALANCE_BUDGET", 0.05, high=1)
#: A config that was moved stays on its new node for this time.
REBALANCE_COOLDOWN = duration("CLUSTERAGENT_REBALANCE_COOLDOWN", timedelta(minutes=10))
#: Nothing is balanced for this time after a node joined or was lost, unless a node is overloaded.
REBALANCE_SETTLING = duration("CLUSTERAGENT_REBALANCE_SETTLING", timedelta(seconds=90))
#: Move a config only where the difference in utilization is large enough for its cost.
STICKINESS_ENABLED = flag("DD_CLUSTER_CHECKS_STICKINESS_ENABLED", False)
#: That difference is the cost in workers, times this factor.
STICKINESS_FACTOR = number("DD_CLUSTER_CHECKS_STICKINESS_FACTOR", 4.0)
#: The most that this difference is.
STICKINESS_UPPER_LIMIT = number("DD_CLUSTER_CHECKS_STICKINESS_UPPER_LIMIT", 1.0)
#: The least that this difference is.
STICKINESS_LOWER_LIMIT = number("DD_CLUSTER_CHECKS_STICKINESS_LOWER_LIMIT", 0.05)
#: A node is slow when its checks take this many times as long as the same checks elsewhere. 0: no node is slow.
SLOW_NOTICE = number("CLUSTERAGENT_SLOW_NOTICE", 2.0, high=1000)
#: From this factor on it is given less, bit by bit, down to a quarter of its share. 0: no node is given less.
SLOW_RELIEF = number("CLUSTERAGENT_SLOW_RELIEF", 3.0, high=1000)

# Runners. They are called at the addresses that they report, and receive our token.
PRIVATE = ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "fc00::/7")
#: Runners are asked for their stats at addresses in these ranges alone, because the call carries the node agents' token or
#: one of `CLUSTERAGENT_RUNNER_TOKENS`.
#: Default: `10.0.0.0/8 172.16.0.0/12 192.168.0.0/16 100.64.0.0/10 fc00::/7`; with simulated node agents loopback, too.
RUNNER_NETWORKS = networks(
    "CLUSTERAGENT_RUNNER_NETWORKS", (*PRIVATE, "127.0.0.0/8", "::1/128") if DEMO_NODES else PRIVATE
)
#: Which certificates of runners are accepted. `any`: each. `pinned`: that which a runner shows first since it started; one that
#: later shows another gets no call and no token until [that is accepted](../howto/runners.md#pin-their-certificates). All
#: replicas need the same.
RUNNER_CERTIFICATES_PINNED = (
    choice("CLUSTERAGENT_RUNNER_CERTIFICATES", "any", {"any": "any", "pinned": "pinned"}) == "pinned"
)
# Workers of a node that did not report how many it has: the Datadog Agent's default.
DEFAULT_WORKERS = 4
#: The most workers that count of what a runner reports. So no runner attracts more configs than one of this size.
RUNNER_MAX_WORKERS = integer("CLUSTERAGENT_RUNNER_MAX_WORKERS", 64, 1, 100_000)

# Sources of configs.
#: Folders and URLs of configs are read again after this time. A saved file is noticed sooner.
SCAN_PERIOD = duration("CLUSTERAGENT_SCAN_PERIOD", timedelta(seconds=10), low=timedelta(seconds=1))
#: A config that only another replica's folders had is kept for this time after that replica's last scan.
REMOVAL_GRACE = duration("CLUSTERAGENT_REMOVAL_GRACE", timedelta(minutes=10))
#: Environment variables that configs may read by `%%env_NAME%%`; never those that hold secrets of this program.
#: Default: all for files, none for what is annotated in Kubernetes.
AD_ALLOWED_ENV_VARS = frozenset(name.lower() for name in words("DD_AD_ALLOWED_ENV_VARS"))
#: Configs may read no environment variables.
AD_DISABLE_ENV_VAR_RESOLUTION = flag("DD_AD_DISABLE_ENV_VAR_RESOLUTION", False)
#: Prometheus HTTP service discovery, and the check that each target gets, as JSON:
#: `[{"url": …, "check_template": …, "exclude_filter": …}]`.
HTTP_SD_CONFIGS = text("DD_PROMETHEUS_HTTP_SD_CONFIGS", "")
#: One such URL, in the older form.
HTTP_SD_URL = text("DD_PROMETHEUS_HTTP_SD_URL", "")
#: The template for `DD_PROMETHEUS_HTTP_SD_URL`, as JSON.
HTTP_SD_CHECK_TEMPLATE = text("DD_PROMETHEUS_HTTP_SD_CHECK_TEMPLATE", "")

# Kubernetes.
#: Which cluster is followed. `auto`: that of the kubeconfig, else the one that the process runs in, if any.
KUBERNETES = choice("CLUSTERAGENT_KUBERNETES", "auto", {"auto": "auto", "on": "on", "off": "off"})
#: The kubeconfig of the cluster that is followed.
KUBECONFIG = path("CLUSTERAGENT_KUBECONFIG", "a kubeconfig file")
#: Read EndpointSlices. Off: read Endpoints, as old clusters have them.
KUBERNETES_USE_ENDPOINT_SLICES = flag("DD_KUBERNETES_USE_ENDPOINT_SLICES", True)
#: Check endpoints that are not ready or about to end, too.
KUBERNETES_IGNORE_READINESS = flag("DD_KUBERNETES_ENDPOINT_SLICES_IGNORE_READINESS", False)
#: Resolve handles of Kubernetes' Secrets here. Off: they pass through, and node agents may resolve them.
KUBERNETES_SECRETS = flag("CLUSTERAGENT_KUBERNETES_SECRETS", False)
#: The pods of the runners, by their namespace and labels: `datadog/app=datadog-clusterchecks`. A runner leaves as soon as its pod
#: is being deleted.
#: Default: pods are not watched.
KUBERNETES_RUNNER_PODS = selection("CLUSTERAGENT_KUBERNETES_RUNNER_PODS")
#: `drain`: drain the runners on Kubernetes nodes that are cordoned, and give them work again when these are uncordoned. Needs
#: `CLUSTERAGENT_KUBERNETES_RUNNER_PODS`.
KUBERNETES_CORDONS = choice("CLUSTERAGENT_KUBERNETES_CORDONS", "off", {"off": "off", "drain": "drain"})
#: Make checks of Services that are annotated with `prometheus.io/scrape`.
PROMETHEUS_SCRAPE_ENABLED = flag("DD_PROMETHEUS_SCRAPE_ENABLED", False)
#: Check each endpoint of such a Service instead of the Service.
PROMETHEUS_SCRAPE_SERVICE_ENDPOINTS = flag("DD_PROMETHEUS_SCRAPE_SERVICE_ENDPOINTS", False)
#: Which Services are checked, and how, as JSON: see [annotations](../annotations.md#prometheus).
PROMETHEUS_SCRAPE_CHECKS = text("DD_PROMETHEUS_SCRAPE_CHECKS", "")
#: The version of the openmetrics check whose options these checks are written in.
PROMETHEUS_SCRAPE_VERSION = integer("DD_PROMETHEUS_SCRAPE_VERSION", 1, 1, 2)
#: Services that are read although `DD_CONTAINER_EXCLUDE` names them, by `kube_namespace:` and `name:`.
CONTAINER_INCLUDE = words("DD_CONTAINER_INCLUDE")
#: Services that are not read, by `kube_namespace:` and `name:`.
CONTAINER_EXCLUDE = words("DD_CONTAINER_EXCLUDE")
#: Services that are read although `DD_CONTAINER_EXCLUDE_METRICS` names them.
CONTAINER_INCLUDE_METRICS = words("DD_CONTAINER_INCLUDE_METRICS")
#: The same as `DD_CONTAINER_EXCLUDE`.
CONTAINER_EXCLUDE_METRICS = words("DD_CONTAINER_EXCLUDE_METRICS")

# What is kept and told.
#: Moves, plans, edits and events are deleted when they are older.
LEDGER_RETENTION = duration("CLUSTERAGENT_LEDGER_RETENTION", timedelta(days=30), low=timedelta(hours=1))
#: What people did (acts) is deleted when it is older.
ACT_RETENTION = duration("CLUSTERAGENT_ACT_RETENTION", timedelta(days=366), low=timedelta(hours=1))
#: Answer `/metrics` without a token.
METRICS_PUBLIC = flag("CLUSTERAGENT_METRICS_PUBLIC", False)
#: Tell the metric `cluster_checks_configs_info`, which has a series for each check ID.
METRICS_CONFIGS_INFO = flag("CLUSTERAGENT_METRICS_CONFIGS_INFO", True)
#: Send spans of what is dispatched and of calls to a receiver of OpenTelemetry's protocol: see [traces](../metrics.md#traces).
TRACES = extra("CLUSTERAGENT_TRACES", "opentelemetry.sdk", "traces")
# OpenTelemetry's own option, as those that its libraries read.
TRACES_EXPORTER = choice("OTEL_TRACES_EXPORTER", "otlp", {name: name for name in ("otlp", "console", "none")})
# Its libraries quote what they can't read of these, and they may hold secrets.
TRACES_HEADERS = (
    (headers("OTEL_EXPORTER_OTLP_TRACES_HEADERS") or headers("OTEL_EXPORTER_OTLP_HEADERS")) if TRACES else {}
)
_RECEIVER = url("OTEL_EXPORTER_OTLP_ENDPOINT") if TRACES else ""
TRACES_URL = (url("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT") if TRACES else "") or (
    _RECEIVER and f"{_RECEIVER.removesuffix('/')}/v1/traces"
)
# Whoever knows the URL can write to its channel, so it is as secret as a token.
#: A URL that is told what begins or ceases to need somebody.
WEBHOOK = url("CLUSTERAGENT_WEBHOOK")
#: The URL of a copy of the documentation's site, to which the admin's pages link.
#: Default: the site that the image has, on the operators' port; where there is none, a page that says how to have it.
DOCS_URL = url("CLUSTERAGENT_DOCS_URL")
