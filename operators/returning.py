"""Where a form leads back to: the page that it was sent from, if that is one of the admin's."""

from urllib.parse import urlsplit

from django.http import HttpRequest
from django.urls import reverse
from django.utils.http import url_has_allowed_host_and_scheme

# The field of a form whose answer is another page's: it names the page that the form stands on.
FIELD = "back_to"


def named(request: HttpRequest, otherwise: str = "") -> str:
    """The page that the form names, as a path; `otherwise` if it names none of the admin's."""
    given = request.POST.get(FIELD, "")
    return given if _is_ours(given) else otherwise


def sent_from(request: HttpRequest) -> str:
    """The page that a form was sent from, by its field or by the browser's word, else the address that it was sent to."""
    referrer = urlsplit(request.headers.get("Referer", ""))
    path = referrer._replace(scheme="", netloc="", fragment="").geturl()
    is_here = referrer.netloc == request.get_host() and _is_ours(path)
    return named(request, path if is_here else request.get_full_path())


def _is_ours(url: str) -> bool:
    return url.startswith(reverse("admin:index")) and url_has_allowed_host_and_scheme(url, None)
