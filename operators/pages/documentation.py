"""The page to which links to the documentation lead where an installation has none."""

from django.contrib import admin
from django.http import HttpRequest, HttpResponseBase
from django.shortcuts import redirect

from operators import documentation
from operators.pages import base


@admin.site.admin_view
def missing(request: HttpRequest, page: str) -> HttpResponseBase:
    """Say where this page of the documentation is, and how an installation comes to have it."""
    if documentation.site():
        return redirect(documentation.page(page))
    return base.render(request, "operators/documentation.html", "Documentation", file=f"docs/{page}.md")
