"""A walk over all pages of the operators' port: by its routes, by the links of its pages, and by the admin's actions."""

import re
from collections.abc import Iterator
from html import unescape
from typing import Any, NamedTuple
from urllib.parse import parse_qsl, urljoin, urlsplit

from django.apps import apps
from django.contrib import admin
from django.contrib.auth.models import User
from django.db import transaction
from django.test import Client, RequestFactory
from django.urls import URLPattern, URLResolver, get_resolver
from django.utils.regex_helper import normalize

from checks.explain.alerts import Kind

# The most pages of each kind that exists for each row.
MOST_ROWS = 6
MOST_PAGES = 600
_LINK = re.compile(r"""(?:href|hx-get)="([^"#]+)""")
# Parameters of the admin's routes that lead nowhere here (unknown pages, other sites), and the route of the log-out.
_LEFT_OUT = frozenset({"url", "content_type_id"})
_WAYS_OUT = frozenset({"/admin/logout/"})
# The parameter with the list that the user came from, which changes nothing.
_NAMELESS = frozenset({"_changelist_filters"})


class Page(NamedTuple):
    """The answer of a call."""

    url: str
    status: int
    content_type: str
    text: str


class Visitor:
    """A user who opens every page. It should have all permissions."""

    def __init__(self, user: User) -> None:
        self._user = user
        self._client = Client(raise_request_exception=False)
        self._client.force_login(user)

    def pages(self) -> Iterator[Page]:
        """Yield every page that a GET reaches. Raises AssertionError after MOST_PAGES pages."""
        waiting = [url for route, pattern in _routes(get_resolver().url_patterns) for url in _urls(route, pattern)]
        seen = set(_WAYS_OUT)
        for url in waiting:
            if (kind := _kind(url)) in seen:
                continue
            seen.add(kind)
            assert len(seen) < MOST_PAGES, f"the pages never end: {url}"
            page = _page(url, self._client.get(url))
            yield page
            waiting += _links(page)

    def actions(self) -> Iterator[Page]:
        """Yield the first answer of each action of each list, for MOST_ROWS rows. Every change is rolled back."""
        request = RequestFactory().get("/")
        request.user = self._user
        for model, model_admin in admin.site._registry.items():
            rows = [row.pk for row in model._default_manager.all()[:MOST_ROWS]]
            url = f"/admin/{model._meta.app_label}/{model._meta.model_name}/"
            for action in model_admin.get_actions(request):
                before = transaction.savepoint()
                answer = self._client.post(url, {"action": action, "_selected_action": rows}, follow=True)
                transaction.savepoint_rollback(before)
                yield _page(f"{url}: {action}", answer)


def _page(url: str, answer: Any) -> Page:
    return Page(url, answer.status_code, answer.get("Content-Type", ""), answer.getvalue().decode())


def _routes(patterns: Any, prefix: str = "") -> Iterator[tuple[str, URLPattern]]:
    """Yield every route as (regular expression, pattern)."""
    for pattern in patterns:
        route = prefix + pattern.pattern.regex.pattern.removeprefix("^")
        if isinstance(pattern, URLResolver):
            yield from _routes(pattern.url_patterns, route.removesuffix(r"\Z"))
        else:
            yield route, pattern


def _urls(route: str, pattern: URLPattern) -> Iterator[str]:
    """Yield the URLs of a route, with values for which there are pages."""
    for form, names in normalize(route):
        if not names:
            yield f"/{form}"
        elif not _LEFT_OUT & set(names):
            [name] = names
            for value in _values(route, name, pattern.callback):
                yield f"/{form}" % {name: value}


def _values(route: str, name: str, callback: Any) -> list[Any]:
    if name == "app_label":
        return sorted({model._meta.app_label for model in admin.site._registry})
    if name == "rows":
        return ["configs", "nodes"]
    if name == "page":
        return ["troubleshooting"]
    if name == "kind":
        return list(Kind)
    # The key of a row. The model is in the admin's path, or in the API's view.
    where, app, kind = [*route.split("/"), "", ""][:3]
    model = apps.get_model(app, kind) if where == "admin" else callback.cls.queryset.model
    field = name if name == "name" else "pk"
    return list(model._default_manager.values_list(field, flat=True)[:MOST_ROWS])


def _links(page: Page) -> list[str]:
    """Return the URLs on this port to which the page has links."""
    if not page.content_type.startswith("text/html"):
        return []
    links = (urlsplit(urljoin(page.url, unescape(link))) for link in _LINK.findall(page.text))
    return [
        f"{link.path}?{link.query}".rstrip("?") for link in links if not link.netloc and _leads_somewhere(link.path)
    ]


def _leads_somewhere(path: str) -> bool:
    return path.startswith(("/admin/", "/api/", "/metrics"))


def _kind(url: str) -> str:
    """Return the kind of a page: its path and the names in its query. One page of each kind is opened."""
    parts = urlsplit(url)
    words = sorted({name for name, _ in parse_qsl(parts.query, keep_blank_values=True)} - _NAMELESS)
    return f"{parts.path}?{'&'.join(words)}".rstrip("?")
