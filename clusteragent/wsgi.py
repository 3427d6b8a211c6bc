"""The WSGI application of either web server; `CLUSTERAGENT_PORT` says which (see settings)."""

import os

from django.conf import settings
from django.core.wsgi import get_wsgi_application

from clusteragent.lib import database, processes

# A web server that is killed leaves its processes behind, which go on answering, and keep the port from the next one.
if parent := os.environ.get("CLUSTERAGENT_WEB_PARENT"):
    processes.end_with(int(parent))

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "clusteragent.settings")
application = get_wsgi_application()
if settings.PORT == "agents":
    database.take_over()
