"""The WSGI application of either web server; `CLUSTERAGENT_PORT` says which (see settings)."""

import os

from django.core.wsgi import get_wsgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "clusteragent.settings")
application = get_wsgi_application()
