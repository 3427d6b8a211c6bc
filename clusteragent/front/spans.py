"""The span of a call, if traces are on: its route and status. What its view does is within it."""

import re
from collections.abc import Awaitable, Callable, Mapping
from functools import lru_cache
from typing import Any

from django.conf import settings

from clusteragent.lib import traces

Send = Callable[[Mapping[str, Any]], Awaitable[None]]

# Where the environ has the span, and the pattern of the call's route.
SPAN, ROUTE = "clusteragent.span", "clusteragent.route"
# Others are whatever a client makes up.
_METHODS = {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"}


async def record(environ: dict[str, Any], send: Send, answer: Callable[[Send], Awaitable[None]]) -> None:
    """Let `answer` answer the call with a `send` that notes the status, and record it as a span."""
    # Node agents make no traces, and what they send in these headers must not decide which calls are recorded.
    came = {"HTTP_TRACEPARENT": "traceparent", "HTTP_TRACESTATE": "tracestate"} if settings.PORT == "operators" else {}
    span = environ[SPAN] = traces.begin_call({name: environ[key] for key, name in came.items() if key in environ})
    status = 0

    async def noting(message: Mapping[str, Any]) -> None:
        nonlocal status
        status = message.get("status", status)
        await send(message)

    try:
        await answer(noting)
    finally:
        method = environ["REQUEST_METHOD"] if environ["REQUEST_METHOD"] in _METHODS else "_OTHER"
        path = _path(environ.get(ROUTE))
        about = {"http.request.method": method, "http.route": path, "http.response.status_code": status}
        traces.end_call(
            span,
            f"{method} {path}".rstrip(),
            {"port": settings.PORT, **{name: value for name, value in about.items() if value}},
            is_error=status >= 500 or not status,
        )


@lru_cache(1000)
def _path(route: str | None) -> str:
    """Return Django's pattern of a route as a path with `<name>` for each part that differs; empty if there is no route."""
    if route is None:
        return ""
    for regex, words in ((r"\(\?:api/v1\|v1/api\)", "api/v1"), (r"\(\?P<(\w+)>.*?\)", r"<\1>"), (r"<\w+:", "<")):
        route = re.sub(regex, words, route)
    return "/" + re.sub(r"\^/\*|/\?\$|[\^$]", "", route).lstrip("/")
