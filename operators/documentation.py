"""Where the documentation is: at CLUSTERAGENT_DOCS_URL, else on this port, if this installation has the site."""

import functools

from django.contrib.staticfiles import finders
from django.templatetags.static import static

from clusteragent.lib import conf


def page(name: str, anchor: str = "") -> str:
    """Return the URL of a page of the documentation, empty where there is none: nothing may link to it then."""
    site = f"{conf.DOCS_URL.rstrip('/')}/" if conf.DOCS_URL else _own()
    return f"{site}{name}.html{f'#{anchor}' if anchor else ''}" if site else ""


@functools.cache
def _own() -> str:
    # `make docs` puts it there, and so does the build of the image.
    return static("docs/") if finders.find("docs/index.html") else ""
