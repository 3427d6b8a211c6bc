"""Creates tokens for the operators' API."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from django.contrib.auth.models import Group, User
from django.db import transaction
from knox.models import AuthToken

from acts.models import Act
from acts.models.acts import BEARER
from acts.recording import record
from clusteragent.lib.words import escape_controls
from operators import bounds
from operators.models import Purpose


class UnknownUser(LookupError):
    """No such user exists, and no role was given to create one with."""


class OtherRole(ValueError):
    """The user exists, but does not have the role."""


@transaction.atomic
def make(
    username: str,
    *,
    role: str = "",
    expires: datetime | None = None,
    purpose: str = "",
    sources: Sequence[str] = (),
    checks: Sequence[str] = (),
) -> tuple[Any, str]:
    """Create a token for this user and return (its row, the token). expires: None for no end. purpose: in words.

    sources, checks: patterns that it is bound to; without any it may do what its user may.
    With a role, a missing user is created; such a user can't log in. Raises UnknownUser and OtherRole.
    """
    user = User.objects.filter(username=username).first()
    if user is None:
        if not role:
            raise UnknownUser(f"there is no user {username}: with a role, one is made")
        user = make_user(username, role)
    if role and not user.groups.filter(name=role).exists():
        instead = f"or a new name gets it (--user {username}-{role})"
        raise OtherRole(f"{username} has not the role {role}: an admin gives it, in the admin, {instead}")
    row, token = AuthToken.objects.create(user, expiry=None)
    if expires is not None:
        # Not by the library, which takes a lifetime and adds it to the process's clock.
        row.expiry = expires
        row.save(update_fields=["expiry"])
    give_purpose(row, purpose)
    bounds.bind(sources, checks, token=row)
    record(Act.Verb.MAKE, named(row), after=told(row))
    return row, token


def make_user(username: str, role: str) -> User:
    """Create a user for tokens, who has this role and can't log in, on record."""
    user = User.objects.create_user(username)
    user.groups.add(Group.objects.get(name=role))
    record(Act.Verb.MAKE, f"user {username}", after={"username": username, "groups": [role]})
    return user


def give_purpose(row: Any, purpose: str) -> None:
    """Note what a token is for, if that is said."""
    words = escape_controls(" ".join(purpose.split()))[: Purpose.MOST]
    if words:
        row.purpose = Purpose.objects.create(token=row, text=words)


def purpose_of(row: Any) -> str:
    """What a token is for; empty if nobody said it."""
    return str(getattr(row, "purpose", ""))


def named(row: Any) -> str:
    """A token in words: how it begins, whose it is, and what for."""
    return _worded(row, f" of {row.user}")


def credential(row: Any) -> str:
    """A token in words, where its user stands beside them."""
    return _worded(row, "")


def _worded(row: Any, whose: str) -> str:
    what_for = purpose_of(row)
    return f"{BEARER}{row.token_key}…{whose}{f', for {what_for}' if what_for else ''}"


def told(row: Any) -> dict[str, Any]:
    """What is known of a token, as JSON data."""
    roles = sorted(row.user.groups.values_list("name", flat=True))
    expires = str(row.expiry) if row.expiry else None
    return {
        "user": row.user.get_username(),
        "roles": roles,
        "expires": expires,
        "purpose": purpose_of(row),
    } | bounds.told(row)
