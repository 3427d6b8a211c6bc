"""Routes of the agents' port: node agents' routes and local routes only. No redirects, no trailing slashes.

An agent whose `cluster_agent.url` ends with a slash asks for `//version`, so any number of leading slashes is accepted.
"""

from django.urls import URLPattern, URLResolver, include, path, re_path

from checks.views import AllEndpointsConfigs, Configs, EndpointsConfigs, Isolate, Rebalance, State
from clusteragent.views import Healthz, Readyz, Version
from nodes.views import Goodbye, NotFound, Status

_api = [
    path("clusterchecks", State.as_view()),
    path("clusterchecks/configs/<str:name>", Configs.as_view()),
    path("clusterchecks/goodbye/<str:name>", Goodbye.as_view()),
    path("endpointschecks/configs", AllEndpointsConfigs.as_view()),
    path("endpointschecks/configs/<str:name>", EndpointsConfigs.as_view()),
    path("clusterchecks/rebalance", Rebalance.as_view()),
    path("clusterchecks/isolate/check/<path:check_id>", Isolate.as_view()),
]
_routes: list[URLPattern | URLResolver] = [
    path("healthz", Healthz.as_view()),
    path("readyz", Readyz.as_view()),
    path("version", Version.as_view()),
    re_path(r"^(?:api/v1|v1/api)/", include(_api)),
    re_path("", NotFound.as_view()),
]
urlpatterns: list[URLPattern | URLResolver] = [
    # First, as nearly all calls are heartbeats, and finding their route takes longer than reading their content.
    re_path(r"^/*(?:api/v1|v1/api)/clusterchecks/status/(?P<name>[^/]+)$", Status.as_view()),
    re_path("^/*", include(_routes)),
]
