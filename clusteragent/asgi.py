"""The ASGI application of either web server; `CLUSTERAGENT_PORT` says which (see settings)."""

import os

import django
from django.conf import settings

from clusteragent.lib import conf, database, processes

# A web server that is killed leaves its processes behind, which go on answering, and keep the port from the next one.
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
    # All node agents have one token. They wait for three seconds, and are told before that they ask in vain.
    application = Front(threads=conf.WEB_THREADS, patience=1.0)
else:
    # People wait for longer, and what one asks for may keep the loop for a moment.
    each, load = max(1, conf.WEB_THREADS // 2), Load(others=1.0, everybody=2.0)
    application = Front(threads=conf.WEB_THREADS, patience=10.0, each=each, load=load)
