"""Django's settings, derived from the program's options (`clusteragent/lib/conf.py`)."""

import os
from datetime import timedelta
from pathlib import Path
from typing import Any

from csp.constants import NONCE
from django.core.management.utils import get_random_secret_key
from django.templatetags.static import static
from psycopg.conninfo import conninfo_to_dict

from clusteragent.lib import conf, logs, postgres

# Which of the two web servers this process is: `agents` or `operators`. Every other process sees what operators see.
PORT = os.environ.get("CLUSTERAGENT_PORT", "operators")

# Without a file yet (before the first start), a key that lives as long as the process; web servers insist on a real one.
SECRET_KEY = conf.SECRET_KEY or get_random_secret_key()
DEBUG = False
ALLOWED_HOSTS = ["*"] if PORT == "agents" else list(conf.ADMIN_HOSTS)

INSTALLED_APPS = [
    "unfold",
    "unfold.contrib.filters",
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "rest_framework",
    "django_q",
    "nodes",
    "checks",
    "clusteragent",
]
if PORT != "agents":
    INSTALLED_APPS += ["django_filters", "drf_spectacular", "drf_spectacular_sidecar", "knox", "operators"]

# Node agents' calls pass no middleware: no session, no CSRF, no host check. Authentication is the views'.
MIDDLEWARE = (
    []
    if PORT == "agents"
    else [
        "csp.middleware.CSPMiddleware",
        "clusteragent.middleware.Headers",
        "clusteragent.views.HealthFirst",
        "django.middleware.security.SecurityMiddleware",
        "clusteragent.middleware.KnownHosts",
        "whitenoise.middleware.WhiteNoiseMiddleware",
        "django.contrib.sessions.middleware.SessionMiddleware",
        "django.middleware.common.CommonMiddleware",
        "django.middleware.csrf.CsrfViewMiddleware",
        "django.contrib.auth.middleware.AuthenticationMiddleware",
        "operators.login.Sessions",
        "django.contrib.messages.middleware.MessageMiddleware",
        "django.middleware.clickjacking.XFrameOptionsMiddleware",
    ]
)
ROOT_URLCONF = f"clusteragent.urls.{PORT}"
# A redirect turns an agent's POST into a GET.
APPEND_SLASH = PORT != "agents"

TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [Path(__file__).parent.parent / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ],
        },
    },
]


def _database() -> dict[str, Any]:
    """The database of DATABASE_URL, in any form that libpq reads (several hosts too), else the embedded one."""
    # Of all processes only the web server of node agents needs no session of its own.
    pooled = conf.DATABASE_URL or postgres.url(conf.VAR / "pgdata")
    parts = conninfo_to_dict(pooled if PORT == "agents" else conf.DIRECT_DATABASE_URL or pooled)
    # A node agent waits three seconds for an answer and keeps its checks on a 503, so a database that is away must be
    # noticed within two. The background pass has more time: it works in large sets. Heartbeats don't wait for a disk: after
    # a crash, which may lose the last of them, no pass counts silence from before (nodes.models.Memory). A process that is
    # stopped within a transaction must not keep what it locked. Node agents' calls look rows up by their keys: a plan that was
    # kept since a table was empty would read all of it for each.
    limits = "-c idle_in_transaction_session_timeout=5s " + (
        "-c statement_timeout=1500 -c lock_timeout=1000 -c synchronous_commit=off -c enable_seqscan=off -c jit=off"
        if PORT == "agents"
        else "-c statement_timeout=60s -c lock_timeout=10s"
    )
    options = {
        "connect_timeout": 2,
        "tcp_user_timeout": 2000 if PORT == "agents" else 10_000,
        "keepalives_idle": 5,
        "keepalives_interval": 2,
        "keepalives_count": 3,
        "application_name": f"clusteragent {PORT}",
        # Heartbeats are one statement, again and again: planning it takes longer than running it.
        **({"server_side_binding": True, "prepare_threshold": 5} if PORT == "agents" else {}),
        **{name: value for name, value in parts.items() if name not in {"dbname", "user", "password", "host", "port"}},
    }
    options["options"] = f"{limits} {options.get('options', '')}".strip()
    return {
        "ENGINE": "clusteragent.lib.database",
        "NAME": parts.get("dbname", ""),
        "USER": parts.get("user", ""),
        "PASSWORD": parts.get("password", ""),
        "HOST": parts.get("host", ""),
        "PORT": parts.get("port", ""),
        "CONN_MAX_AGE": None if PORT == "agents" else 60,
        "OPTIONS": options,
    }


DATABASES = {"default": _database()}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

USE_TZ = True
TIME_ZONE = "UTC"
LANGUAGE_CODE = "en-us"
FORMAT_MODULE_PATH = "clusteragent.formats"

STATIC_URL = "static/"
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "staticfiles": {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"},
}
WHITENOISE_USE_FINDERS = True
WHITENOISE_ALLOW_ALL_ORIGINS = False

LOGIN_URL = "admin:login"
LOGIN_REDIRECT_URL = "admin:index"
if PORT != "agents":
    AUTHENTICATION_BACKENDS = ["operators.login.Backend"]
    PASSWORD_HASHERS = ["operators.hashing.PatientHasher"]
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": "django.contrib.auth.password_validation.MinimumLengthValidator", "OPTIONS": {"min_length": 12}},
    {"NAME": "django.contrib.auth.password_validation.CommonPasswordValidator"},
    {"NAME": "django.contrib.auth.password_validation.UserAttributeSimilarityValidator"},
    {"NAME": "django.contrib.auth.password_validation.NumericPasswordValidator"},
]
# No longer than a session lasts; `operators.login` ends those whose operator does nothing.
SESSION_COOKIE_AGE = int(conf.SESSION_AGE.total_seconds())
# By these names a browser takes them from this host alone, over TLS.
SESSION_COOKIE_NAME = "__Host-session"
CSRF_COOKIE_NAME = "__Host-csrf"
CSRF_FAILURE_VIEW = "operators.api.errors.csrf_failure"
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = True
SESSION_COOKIE_HTTPONLY = CSRF_COOKIE_HTTPONLY = True
SESSION_COOKIE_SAMESITE = CSRF_COOKIE_SAMESITE = "Lax"
# Messages may name what only some may see: not in a cookie.
MESSAGE_STORAGE = "django.contrib.messages.storage.session.SessionStorage"
SECURE_CONTENT_TYPE_NOSNIFF = True
SECURE_HSTS_SECONDS = int(conf.HSTS_AGE.total_seconds())
SECURE_REFERRER_POLICY = "same-origin"
SILENCED_SYSTEM_CHECKS = [
    # Other names of the domain, and lists of browsers, are its owner's.
    "security.W005",
    "security.W021",
    # No port of ours is without TLS, so there is nothing to redirect from.
    "security.W008",
]
CONTENT_SECURITY_POLICY = {
    "DIRECTIVES": {
        "default-src": ["'none'"],
        # unfold's pages are written for Alpine.js, which makes functions of their attributes.
        "script-src": ["'self'", "'unsafe-eval'", NONCE],
        "style-src": ["'self'"],
        # Attributes alone: Alpine.js and Swagger's page set widths by them.
        "style-src-attr": ["'unsafe-inline'"],
        "img-src": ["'self'", "data:"],
        "font-src": ["'self'"],
        "connect-src": ["'self'"],
        "form-action": ["'self'"],
        "base-uri": ["'none'"],
        "object-src": ["'none'"],
        "frame-ancestors": ["'none'"],
    }
}

# Nothing takes files. A body is read before a view is asked, and its length bounded there (clusteragent/front).
FILE_UPLOAD_HANDLERS: list[str] = []

REST_FRAMEWORK: dict[str, Any] = {
    "DEFAULT_AUTHENTICATION_CLASSES": [],
    "DEFAULT_PERMISSION_CLASSES": [],
    "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
    "DEFAULT_PARSER_CLASSES": ["rest_framework.parsers.JSONParser"],
    "UNAUTHENTICATED_USER": None,
    "COMPACT_JSON": True,
}
if PORT != "agents":
    REST_FRAMEWORK["DEFAULT_SCHEMA_CLASS"] = "drf_spectacular.openapi.AutoSchema"

# Of operators' tokens; those of node agents are options.
REST_KNOX = {"AUTH_HEADER_PREFIX": "Bearer", "TOKEN_TTL": timedelta(days=90)}
SPECTACULAR_SETTINGS = {
    "TITLE": "Cluster agent: operators' API",
    "VERSION": "1",
    "SERVE_INCLUDE_SCHEMA": False,
    "SCHEMA_PATH_PREFIX": "/api/operator/v1",
    "SWAGGER_UI_DIST": "SIDECAR",
    "SWAGGER_UI_FAVICON_HREF": "SIDECAR",
    "ENUM_NAME_OVERRIDES": {
        "ConfigStateEnum": "operators.api.serializers.STATES",
        "NodeStateEnum": "operators.api.serializers.NODE_STATES",
        "MoveReasonEnum": "checks.models.Move.Reason",
        "IsolationReasonEnum": "checks.models.orders.Isolation.Reason",
    },
    # No validator of another host is asked about the schema.
    "SWAGGER_UI_SETTINGS": {"deepLinking": True, "validatorUrl": None},
}

UNFOLD = {
    "SITE_TITLE": "Cluster agent",
    "SITE_HEADER": "Cluster agent",
    "SITE_SUBHEADER": "All times are UTC",
    "SITE_SYMBOL": "hub",
    "SITE_FAVICONS": [
        {"rel": "icon", "type": "image/svg+xml", "href": lambda _: static("clusteragent/icon.svg")},
    ],
    "SCRIPTS": [lambda _: static("clusteragent/htmx.js")],
    "STYLES": [lambda _: static("clusteragent/colors.css"), lambda _: static("clusteragent/admin.css")],
    "SITE_URL": None,
    "SHOW_HISTORY": False,
    "GLOBAL_CALLBACK": "operators.admin.cluster.every_page",
    "DASHBOARD_CALLBACK": "operators.pages.home.first_page",
    "SIDEBAR": {"navigation": "operators.pages.home.navigation"},
}

# Each leader's queue has a name of its own, so that what an earlier leader left behind is never run by a later one. A
# qcluster that someone starts by hand serves a queue that nobody fills.
QUEUE = os.environ.get("Q_CLUSTER_NAME", "clusteragent")
Q_CLUSTER = {
    "name": "clusteragent",
    "ALT_CLUSTERS": {QUEUE: {}},
    "orm": "default",
    # No row of the database may choose what runs, nor be unpickled: no schedules, and no results (see Broker).
    "broker_class": "clusteragent.worker.Broker",
    "scheduler": False,
    "save_limit": -1,
    # One more than tasks that may take long, so that passes find one free.
    "workers": 6,
    "timeout": 60,
    "retry": 330,
    "max_attempts": 1,
    "poll": 0.1,
    "queue_limit": 4,
}

LOGGING_CONFIG = "clusteragent.lib.logs.configure"
LOGGING = logs.config()
