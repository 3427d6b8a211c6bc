"""The page to which links to the documentation lead where an installation has none."""

from collections.abc import Iterator

from django.contrib import admin
from django.http import HttpRequest, HttpResponseBase
from django.shortcuts import redirect
from django.utils.text import slugify

from clusteragent.lib.processes import IS_CHECKOUT, ROOT
from operators import documentation
from operators.pages import base

DOCS = ROOT / "docs"


@admin.site.admin_view
def missing(request: HttpRequest, page: str) -> HttpResponseBase:
    """Say where this page of the documentation is, and how an installation comes to have it; in a checkout show its source."""
    if documentation.site():
        return redirect(documentation.page(page))
    file = DOCS / f"{page}.md"
    parts = list(_parts(file.read_text())) if IS_CHECKOUT and file.is_file() else []
    return base.render(request, "operators/documentation.html", "Documentation", file=f"docs/{page}.md", parts=parts)


def _parts(text: str) -> Iterator[tuple[str, str]]:
    """The sections of a page as (anchor, text): each begins with its heading."""
    part: list[str] = []
    is_code = False
    for line in text.splitlines():
        is_code ^= line.startswith("```")
        if line.startswith("#") and not is_code and part:
            yield slugify(part[0]), "\n".join(part)
            part = []
        part.append(line)
    yield slugify(part[0]) if part else "", "\n".join(part)
