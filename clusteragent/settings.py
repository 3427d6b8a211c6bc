"""Django's settings, derived from the program's options (`clusteragent/lib/conf.py`)."""

import os
from typing import Any

from django.core.management.utils import get_random_secret_key
from psycopg.conninfo import conninfo_to_dict

from clusteragent.lib import conf, locks, logs, postgres, processes

# Which of the two web servers this process is: `agents` or `operators`. All other processes have the settings of `operators`.
PORT = os.environ.get("CLUSTERAGENT_PORT", "operators")

# Before the first start there is no file: then a key for this process only. Web servers require a stored one.
SECRET_KEY = conf.SECRET_KEY or get_random_secret_key()
DEBUG = False
# Node agents call by any host name and pass no middleware: no session, no CSRF; the views authenticate. A redirect would turn
# an agent's POST into a GET. The settings for people are in `operators/settings.py`.
ALLOWED_HOSTS = ["*"]
APPEND_SLASH = False
INSTALLED_APPS = ["django_q", "acts", "nodes", "checks", "clusteragent"]
MIDDLEWARE: list[str] = []
# These checks are about the protection of browsers.
SILENCED_SYSTEM_CHECKS = ["security.W001", "security.W002", "security.W003"]
ROOT_URLCONF = f"clusteragent.urls.{PORT}"


def _database() -> dict[str, Any]:
    """Return Django's settings of the database of DATABASE_URL, in any form that libpq reads, else of the embedded one."""
    # Only the web server of node agents needs no session of its own, so all other processes go past a pooler.
    pooled = conf.DATABASE_URL or postgres.url(conf.VAR / "pgdata")
    parts = conninfo_to_dict(pooled if PORT == "agents" else conf.DIRECT_DATABASE_URL or pooled)
    # A node agent waits three seconds for an answer and keeps its checks on a 503, so a database that is away must be noticed
    # within two. The background pass has more time: it changes many rows at once. Commits of heartbeats don't wait for the
    # disk: a crash may lose the last of them, and no pass counts silence from before it (nodes.models.Memory). A process that
    # was stopped within a transaction must lose its locks. Node agents' calls find rows by their keys, so no sequential scans:
    # a plan that was cached when a table was empty would read the whole table each time.
    limits = f"{locks.MARKED} -c idle_in_transaction_session_timeout=5000 " + (
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
        "application_name": f"{processes.SESSIONS}{PORT}",
        # Heartbeats are the same statement again and again, and planning it takes longer than running it. With a direct URL,
        # DATABASE_URL leads to a pooler, where the next transaction may not find a prepared statement.
        **({"server_side_binding": True} if PORT == "agents" else {}),
        **({"prepare_threshold": 5} if PORT == "agents" and not conf.DIRECT_DATABASE_URL else {}),
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

# No view takes files. Bodies are read before a view is called, and limited in length there (clusteragent/front).
FILE_UPLOAD_HANDLERS: list[str] = []

# Each term's queue has a name of its own, so a later leader never runs tasks that an earlier one left. A qcluster that
# someone starts by hand serves a queue that nobody fills.
QUEUE = os.environ.get("Q_CLUSTER_NAME", "clusteragent")
Q_CLUSTER = {
    "name": "clusteragent",
    "ALT_CLUSTERS": {QUEUE: {}},
    "orm": "default",
    # No row of the database may choose what runs or be unpickled: no schedules, and no stored results (see Broker).
    "broker_class": "clusteragent.worker.Broker",
    "scheduler": False,
    "save_limit": -1,
    # One more than there are long tasks, so that a pass always finds a free worker.
    "workers": 7,
    "timeout": 60,
    "retry": 330,
    "max_attempts": 1,
    "poll": 0.1,
    "queue_limit": 4,
}

LOGGING_CONFIG = "clusteragent.lib.logs.configure"
LOGGING = logs.config()

if PORT != "agents":
    from operators.settings import *  # noqa: F403
    from operators.settings import APPS

    # The last one unregisters some of what others register with the admin. Of commands with one name, that of the first counts.
    INSTALLED_APPS = ["clusteragent", *APPS, *(app for app in INSTALLED_APPS if app != "clusteragent"), "operators"]
