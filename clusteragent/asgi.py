"""The ASGI application of either web server; `CLUSTERAGENT_PORT` says which (see settings)."""

import os

import django
from django.conf import settings

from clusteragent.lib import conf, database, processes

# Without this, the worker processes of a web server that was killed would go on and keep the port from the next server.
if parent := os.environ.get("CLUSTERAGENT_WEB_PARENT"):
    processes.end_with(int(parent))

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "clusteragent.settings")
django.setup(set_prefix=False)

from django.urls import get_resolver  # noqa: E402 - as the next ones, it reads the settings

from clusteragent.front import Front  # noqa: E402
from clusteragent.front.load import Load  # noqa: E402

# The views, which would be loaded by the first call, while others wait and the server takes itself for overloaded.
get_resolver().url_patterns  # noqa: B018

if settings.PORT == "agents":
    database.take_over()
    # No limit for each caller: all node agents have the same token. They wait three seconds, so they are refused before that.
    application = Front(threads=conf.WEB_THREADS, max_wait=1.0)
else:
    # People wait longer, and one person's call may block the event loop for a moment.
    each, load = max(1, conf.WEB_THREADS // 2), Load(others=1.0, everybody=2.0)
    application = Front(threads=conf.WEB_THREADS, max_wait=10.0, each=each, load=load)
