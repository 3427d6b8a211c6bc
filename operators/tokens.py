"""Makes tokens for the operators' API."""

from datetime import timedelta
from typing import Any

from django.contrib.auth.models import Group, User
from django.db import transaction
from knox.models import AuthToken

from clusteragent.lib import clock


class UnknownUser(LookupError):
    """There is no such user, and no role to make one with."""


class OtherRole(ValueError):
    """The user is there, and has not the role."""


@transaction.atomic
def make(username: str, *, role: str = "", lasting: timedelta | None = None) -> tuple[Any, str]:
    """Make a token of this user: its row and the token itself. lasting: None for ever.

    With a role, a user who is missing is made: one who can't log in. Raises UnknownUser and OtherRole.
    """
    user = User.objects.filter(username=username).first() or _new_user(username, role)
    if role and not user.groups.filter(name=role).exists():
        raise OtherRole(f"{username} has not the role {role}: an admin gives it, in the admin")
    row, token = AuthToken.objects.create(user, expiry=None)
    if lasting is not None:
        # Not the library's reckoning, which is by the process's clock.
        row.expiry = clock.now() + lasting
        row.save(update_fields=["expiry"])
    return row, token


def _new_user(username: str, role: str) -> User:
    if not role:
        raise UnknownUser(f"there is no user {username}: with a role, one is made")
    user = User.objects.create_user(username)
    user.groups.add(Group.objects.get(name=role))
    return user
