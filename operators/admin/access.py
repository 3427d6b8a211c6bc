"""Who gains and who loses what, in sentences that are shown before a user, a group or a token is saved, and after it."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from django.contrib.auth.models import Group, User

from clusteragent.lib.words import listed, plain_count
from operators import bounds
from operators.admin import rights
from operators.roles import MEANINGS

# What a superuser may do, which is no role.
EVERYTHING = "everything, also what no role allows"
# Verbs of what saving a form does, and of what it did.
_PAST = {"gets": "got", "loses": "lost", "becomes": "became", "gives": "gave", "takes": "took"}


def of_user(before: Mapping[str, Any], now: Mapping[str, Any], *, is_done: bool = False) -> Iterator[str]:
    """What a user may do from now on, or no more. before, now: as on record; empty for one that is not there yet.

    is_done: whether it is saved already.
    """
    who, had, has = f"User {now['username']}", set(before.get("groups", ())), set(now["groups"])
    for group in Group.objects.filter(name__in=has - had).select_related("bound").order_by("name"):
        yield f"{who} {_verb('gets', is_done)} the role {meant(group)}."
    for name in sorted(had - has):
        yield f"{who} {_verb('loses', is_done)} the role {name}."
    if told := made_superuser(before, now, is_done=is_done):
        yield told
    elif before.get("is_superuser") and not now["is_superuser"]:
        yield f"{who} is no longer a superuser, and may do what its roles allow."
    if before and before["is_active"] != now["is_active"]:
        yield f"{who} may {'log in and call again' if now['is_active'] else 'not log in or call any more'}."


def made_superuser(before: Mapping[str, Any], now: Mapping[str, Any], *, is_done: bool = False) -> str:
    """What a user may do who becomes a superuser; empty for another. See `of_user`."""
    if not now["is_superuser"] or before.get("is_superuser"):
        return ""
    return f"User {now['username']} {_verb('becomes', is_done)} a superuser, who may do {EVERYTHING}."


def of_group(users: int, before: Mapping[str, Any], now: Mapping[str, Any], *, is_done: bool = False) -> Iterator[str]:
    """What the users of a group may do from now on, or no more. users: how many they are. is_done: see `of_user`."""
    name, who = f"Group {now['name']}", plain_count(users, "user")
    had, has = set(before.get("permissions", ())), set(now["permissions"])
    if given := sorted(has - had):
        yield f"{name} {_verb('gives', is_done)} {who} the right to {_rights(given)}."
    if taken := sorted(had - has):
        yield f"{name} {_verb('takes', is_done)} from {who} the right to {_rights(taken)}, unless another role gives it."
    if before.get("bound") != now.get("bound"):
        yield f"{name} {_bound(who, now.get('bound'))}."


def of_token(user: Any, role: str, bound: Mapping[str, Sequence[str]]) -> tuple[list[str], list[str]]:
    """What the bearer of a token may do: (sentences, what is bad about it).

    user: whose it is; of one that is made with it only the name is known, and `role` which it gets.
    """
    groups = Group.objects.filter(name=role) if role else user.groups.all()
    roles = [meant(group) for group in groups.select_related("bound").order_by("name")]
    may = f"as a superuser {EVERYTHING}" if user.is_superuser else "; ".join(roles) or "what its own permissions say"
    found = [f"User {user} is made with it, and can't log in."] if role else []
    found.append(f"Whoever has the token may do what user {user} may: {may}.")
    patterns = [*bound["sources"], *bound["checks"]]
    if patterns:
        return [*found, f"It is bound to {listed(patterns, None)}."], []
    wide = user.is_superuser or _changes(_given(groups) if role else bounds.everywhere(user))
    return found, ["It is bound to nothing: what it may do, it may do to all checks and all sources."] if wide else []


def meant(group: Group) -> str:
    """A role with what it allows, and within which bound: `viewer: sees everything …`, `night: add and delete pins`."""
    bound = f", bound to {within}" if (within := bounds.in_words(group)) else ""
    allows = MEANINGS.get(group.name) or "; ".join(rights.words(rights.codes(group.permissions)))  # type: ignore[call-overload]
    return f"{group.name}: {allows or 'allows nothing yet'}{bound}"


def members(group: Group) -> list[User]:
    """The users in a group, by name."""
    own = ("groups", "user_permissions__content_type")
    return list(group.user_set.prefetch_related(*own).order_by("username"))


def roles_of(user: User) -> str:
    """What a user may do: its groups, or everything."""
    return "everything" if user.is_superuser else ", ".join(sorted(group.name for group in user.groups.all()))


def _verb(verb: str, is_done: bool) -> str:
    return _PAST[verb] if is_done else verb


def _rights(codes: Collection[str]) -> str:
    return "; ".join(rights.words(codes))


def _bound(who: str, bound: Mapping[str, Sequence[str]] | None) -> str:
    if not bound:
        return f"is bound no more: what it allows, {who} may do to all checks and all sources"
    patterns = listed([*bound["sources"], *bound["checks"]], None)
    return f"is bound to {patterns}: what it allows, {who} may do to these alone, and nothing to the cluster as a whole"


def _given(groups: Any) -> set[str]:
    """The permissions that these groups give everywhere."""
    rows = groups.filter(bound=None).values_list("permissions__content_type__app_label", "permissions__codename")
    return {f"{app}.{codename}" for app, codename in rows if app}


def _changes(permissions: Collection[str]) -> bool:
    """Whether one of these permissions is for more than looking."""
    return any(not name.partition(".")[2].startswith("view_") for name in permissions)
