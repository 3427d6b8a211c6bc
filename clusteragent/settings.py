"""Django's settings, derived from the program's options (`clusteragent/lib/conf.py`)."""

import os
from typing import Any

from django.core.management.utils import get_random_secret_key
from psycopg.conninfo import conninfo_to_dict

from clusteragent.lib import conf, logs, poolers, postgres

# Which of the two web servers this process is: `agents` or `operators`. Every other process sees what operators see.
PORT = os.environ.get("CLUSTERAGENT_PORT", "operators")

# Without a file yet (before the first start), a key that lives as long as the process; web servers insist on a real one.
SECRET_KEY = conf.SECRET_KEY or get_random_secret_key()
DEBUG = False
# Node agents call by any name, and pass no middleware: no session, no CSRF. Authentication is the views'. A redirect would
# turn an agent's POST into a GET. What people need beside that is in `operators/settings.py`.
ALLOWED_HOSTS = ["*"]
APPEND_SLASH = False
INSTALLED_APPS = ["django_q", "nodes", "checks", "clusteragent"]
MIDDLEWARE: list[str] = []
# They ask for what protects browsers.
SILENCED_SYSTEM_CHECKS = ["security.W001", "security.W002", "security.W003"]
ROOT_URLCONF = f"clusteragent.urls.{PORT}"


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
    limits = f"{poolers.MARKED} -c idle_in_transaction_session_timeout=5000 " + (
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
        # Heartbeats are one statement, again and again: planning it takes longer than running it. Who names the server itself
        # beside DATABASE_URL has a pooler there, and what one transaction prepared the next one does not find.
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

# Nothing takes files. A body is read before a view is asked, and its length bounded there (clusteragent/front).
FILE_UPLOAD_HANDLERS: list[str] = []

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

if PORT != "agents":
    from operators.settings import *  # noqa: F403
    from operators.settings import APPS

    # Ours last: what others register with the admin is there when it takes some of that off.
    INSTALLED_APPS = [*APPS, *INSTALLED_APPS, "operators"]
