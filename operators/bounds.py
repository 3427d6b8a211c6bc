"""What the bounds of roles and tokens leave of a user's permissions. The verbs ask for it by `checks.models.bounds`."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from django.contrib.auth.models import Permission
from django.core.exceptions import ValidationError

from checks.models.bounds import Limits, Reach, is_boundable
from clusteragent.lib.words import listed
from operators.models import Bound

# {permission: what each role that gives it lets the user touch by it; None: everything}
Grants = Mapping[str, Sequence[Reach | None]]

_SOURCE = re.compile(r"\*|admin|file|prometheus_http_sd|(?:api|kubernetes):[A-Za-z0-9_.*?-]+")
_CHECK = re.compile(r"[A-Za-z0-9_.*?-]+|[^\s:]+:.*\S")
_SEPARATOR = re.compile(r"[,\n]")
SOURCES_HELP = (
    "With commas between them: api:shop, api:shop-*, admin for what is written by hand, kubernetes:NAMESPACE."
)
CHECKS_HELP = (
    "With commas between them: names of checks, such as postgres*, and tags that all instances have, such as team:shop."
)


def grants(user: Any) -> Grants:
    """What the groups of a user give, read once for each user object. Of a superuser nothing is asked."""
    if not hasattr(user, "grants"):
        rows = Permission.objects.filter(group__in=user.groups.all()).values_list(
            "content_type__app_label", "codename", "group__name", "group__bound__sources", "group__bound__checks"
        )
        found: dict[str, list[Reach | None]] = {}
        for app, codename, group, sources, checks in rows.order_by():
            reach = None if sources is None else Reach(f"the role {group}", tuple(sources), tuple(checks))
            found.setdefault(f"{app}.{codename}", []).append(reach)
        user.grants = found
    return user.grants  # type: ignore[no-any-return]


def permissions(user: Any) -> set[str]:
    """The permissions that the groups of a user give, within bounds or without. What concerns the cluster no bound leaves."""
    given = grants(user).items()
    return {name for name, reaches in given if None in reaches or is_boundable(name)}


def everywhere(user: Any) -> set[str]:
    """The permissions by which a user may touch everything: those that no bound narrows. Of a superuser nothing is asked."""
    return {name for name, reaches in grants(user).items() if None in reaches} | set(user.get_user_permissions())


def limits(user: Any, permission: str) -> Limits:
    """Within which limits a user, or the holder of its token, may use a permission. What no role gives covers nothing.

    Who calls without a user, as node agents do, is judged by its token alone.
    """
    found: list[list[Reach]] = []
    if not user.is_authenticated:
        return found
    if not (user.is_superuser or permission in user.get_user_permissions()):
        reaches = grants(user).get(permission, ())
        if None not in reaches:
            found.append([reach for reach in reaches if reach])
    if token := of_token(user):
        found.append([token])
    return found


def of_token(user: Any) -> Reach | None:
    """The bound of the token that the call came with."""
    return getattr(user, "token_reach", None)


def refusal(user: Any, permission: str) -> str:
    """Why a bound takes this permission altogether, though a role gives it; empty if none does."""
    if is_boundable(permission):
        return ""
    token = of_token(user)
    if token is None and (user.is_superuser or user.has_perm(permission)):
        return ""
    bound = [token] if token else [reach for reach in grants(user).get(permission, ()) if reach]
    told = [f"{reach.of} is bound to {_covered(reach)}" for reach in bound]
    return f"this concerns the whole cluster, and {' and '.join(told)}" if told else ""


def in_sentences(user: Any) -> list[str]:
    """What the bounds of a user's roles are, one sentence each."""
    if user.is_superuser:
        return []
    found = {reach for reaches in grants(user).values() for reach in reaches if reach}
    return [f"{reach.of} is bound to {_covered(reach)}" for reach in sorted(found)]


def _covered(reach: Reach) -> str:
    return listed([*reach.sources, *reach.checks], None) or "nothing"


def patterns_of_sources(text: str) -> list[str]:
    """The patterns of sources in a text, with commas or line ends between them. Raises ValidationError."""
    return _patterns(
        text, _SOURCE, "no pattern of sources: api:NAME, kubernetes:NAMESPACE, admin, file, prometheus_http_sd or *"
    )


def patterns_of_checks(text: str) -> list[str]:
    """The patterns of checks and tags in a text, with commas or line ends between them. Raises ValidationError."""
    return _patterns(text, _CHECK, "neither the name of a check, such as postgres*, nor a tag, such as team:shop")


def _patterns(text: str, form: re.Pattern[str], problem: str) -> list[str]:
    words = list(dict.fromkeys(filter(None, map(str.strip, _SEPARATOR.split(text)))))
    # Commas alone were meant to bind.
    for word in words or filter(None, [text.strip()]):
        if not (form.fullmatch(word) and word.isprintable() and len(word) <= Bound.MOST):
            raise ValidationError(f"{word[: Bound.MOST]!r} is {problem}.")
    return words


def bind(sources: Sequence[str], checks: Sequence[str], **whom: Any) -> None:
    """Bind a group or a token (`group=`, `token=`) to these patterns. Without any it is not bound."""
    if sources or checks:
        Bound.objects.update_or_create(**whom, defaults={"sources": list(sources), "checks": list(checks)})
    else:
        Bound.objects.filter(**whom).delete()


def told(row: Any) -> dict[str, Any]:
    """What a group or a token is bound to, as JSON data; nothing if it is not bound."""
    bound = getattr(row, "bound", None)
    return {"bound": {"sources": bound.sources, "checks": bound.checks}} if bound else {}


def worded(sources: Sequence[str], checks: Sequence[str]) -> str:
    """A bound that is not stored yet, as `in_words` tells it."""
    return str(Bound(sources=sources, checks=checks))


def in_words(row: Any) -> str:
    """What a group or a token is bound to; empty if it is not bound."""
    return str(getattr(row, "bound", None) or "")
