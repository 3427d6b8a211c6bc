"""Where a form leads back to: the page that it was sent from, if that is one of the admin's."""

from django.http import HttpRequest
from django.urls import reverse
from django.utils.http import url_has_allowed_host_and_scheme

# The field of a form whose answer is another page's: it names the page that the form stands on.
FIELD = "back_to"


def named(request: HttpRequest, otherwise: str = "") -> str:
    """The page that the form names, as a path; `otherwise` if it names none of the admin's."""
    given = request.POST.get(FIELD, "")
    return given if _is_ours(given) else otherwise


def _is_ours(url: str) -> bool:
    return url.startswith(reverse("admin:index")) and url_has_allowed_host_and_scheme(url, None)
