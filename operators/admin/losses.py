"""What goes with users and groups that are deleted, and who loses what by it."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from django.contrib.auth.models import Group, User
from knox.models import AuthToken

from clusteragent.lib.words import moment
from operators import tokens
from operators.admin import access, rights
from operators.admin.base import TABLE_ROWS, Table, first_of, link
from operators.admin.changelists import list_called
from operators.admin.rights import Given, Rights
from operators.models import SavedView

# A member, its roles, and what it may do with and without the groups.
Change = tuple[User, str, Rights, Rights]


def with_users(users: Sequence[User]) -> dict[str, Any]:
    """What is deleted with these users, as JSON data."""
    held = AuthToken.objects.filter(user__in=users).select_related("user", "purpose", "bound")
    views = SavedView.objects.filter(owner__in=users).select_related("owner").order_by("owner__username", "of", "name")
    gone = {
        "tokens": [
            {"begins_with": row.token_key} | tokens.told(row) for row in held.order_by("user__username", "created")
        ],
        "views": [view.told() | {"name": view.name, "list": list_called(view.of)} for view in views],
        "logins": [login for user in users for login in _logins(user)],
    }
    return {name: rows for name, rows in gone.items() if rows}


def _logins(user: User) -> list[dict[str, str]]:
    """What lets a user in beside a password."""
    identity, glass = getattr(user, "identity", None), getattr(user, "broken_glass", None)
    found = [f"as {identity}"] if identity else []
    found += [f"by an emergency's password until {moment(glass.ends_at)}"] if glass else []
    return [{"user": user.username, "login": login} for login in found]


def table_of_users(users: Sequence[User], gone: Mapping[str, Any]) -> list[Table]:
    """The table of what is deleted with these users, and of their roles; none if that is nothing. gone: see `with_users`."""
    rows = [("role", user.username, group.name) for user in users for group in user.groups.order_by("name")]
    for row in gone.get("tokens", ()):
        what_for = f", for {row['purpose']}" if row["purpose"] else ""
        rows.append(("token", row["user"], f"{row['begins_with']}…{what_for}"))
    for view in gone.get("views", ()):
        seen = ", which others see, too" if view["shared"] else ""
        rows.append(("saved view", view["owner"], f"{view['name']} of {view['list']}{seen}"))
    rows += [("login", row["user"], row["login"]) for row in gone.get("logins", ())]
    return _table(f"What goes with {'it' if len(users) == 1 else 'them'}", ("what", "of user", "which"), rows)


def _table(title: str, headers: Sequence[str], rows: Sequence[Sequence[Any]]) -> list[Table]:
    """A table of the first of these rows; none without any."""
    shown = rows[:TABLE_ROWS]
    return [Table(first_of(title, len(shown), len(rows)), headers, shown)] if rows else []


def of_groups(groups: Sequence[Group]) -> list[Change]:
    """What the members of these groups may do with and without them."""
    gone = {group.pk for group in groups}
    return changed(
        [user for group in groups for user in access.members(group)],
        lambda given: {pk: one for pk, one in given.items() if pk not in gone},
    )


def changed(users: Sequence[User], then: Callable[[Mapping[int, Given]], Mapping[int, Given]]) -> list[Change]:
    """What these users may do today, and once their groups give what `then` answers to what they give: {group's id: given}."""
    members = {user.pk: user for user in users}.values()
    today = rights.given_by({group for user in members for group in user.groups.all()})
    after, found = then(today), []
    for user in members:
        own = [group.pk for group in user.groups.all()]
        # A superuser may do everything whatever its groups are.
        had, has = ({}, {}) if user.is_superuser else (_may(user, own, today), _may(user, own, after))
        found.append((user, access.roles_of(user), had, has))
    return found


def _may(user: User, own: Sequence[int], given: Mapping[int, Given]) -> Rights:
    return rights.of(user, [given[pk] for pk in own if pk in given])


def told(changes: Sequence[Change]) -> dict[str, Any]:
    """What each of these users loses, as JSON data."""
    lost = {user.username: rights.told(rights.gained(has, had), has) for user, _, had, has in changes}
    found = {name: words for name, words in sorted(lost.items()) if words}
    return {"lost": found} if found else {}


def facts(changes: Sequence[Change]) -> list[str]:
    """What stands for changes where an answer to a page is compared with what it showed."""
    return [f"{user.pk} {user} {rights.facts(had, has)}" for user, _, had, has in changes]


def table_of_members(title: str, changes: Sequence[Change]) -> list[Table]:
    """The table of who gains and loses what, those first of whom that is something; none without members."""
    rows = [(link(user), *row) for user, *row in rights.rows_of(changes)]
    return _table(title, ("user", "roles", "gains", "loses"), rows)
