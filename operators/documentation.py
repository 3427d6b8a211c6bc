"""Where the documentation is: at CLUSTERAGENT_DOCS_URL, else on this port, if this installation has the site."""

import functools

from django.contrib.staticfiles import finders
from django.templatetags.static import static
from django.urls import reverse

from clusteragent.lib import conf


def page(name: str, anchor: str = "") -> str:
    """Return the URL of a page of the documentation; where there is none, that of a page that says where it is."""
    here = site()
    url = f"{here}{name}.html" if here else reverse("pages:documentation", args=[name])
    return f"{url}#{anchor}" if anchor else url


def site() -> str:
    """Return the URL of the documentation, with a slash at its end; empty where there is none."""
    return f"{conf.DOCS_URL.rstrip('/')}/" if conf.DOCS_URL else _own()


@functools.cache
def _own() -> str:
    # `make docs` puts it there, and so does the build of the image.
    return static("docs/") if finders.find("docs/index.html") else ""
