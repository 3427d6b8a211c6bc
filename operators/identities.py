"""Who may act: what the OpenID provider says of people, kept and asked again, and the hour of who broke the glass."""

from collections.abc import Collection
from contextlib import suppress
from datetime import datetime, timedelta
from threading import BoundedSemaphore
from time import sleep
from typing import Any

import structlog
from cryptography.fernet import InvalidToken
from django.contrib.auth.models import Group, User
from django.db import IntegrityError, transaction
from django.db.models import Exists, F, OuterRef, Q, QuerySet
from django.db.models.functions import Now
from knox.models import AuthToken

from acts.models import Act
from acts.recording import known_as, record
from clusteragent.lib import conf
from clusteragent.lib.words import ago, escape_controls, listed, moment
from operators import provider
from operators.ciphers import cipher
from operators.models import BrokenGlass, Identity
from operators.provider import MOST_OF_NAME, Denied, Person, Unreachable
from operators.roles import Role, unknown_groups

# While the provider can't be asked, its last word holds for this long after it was due. It is tried again this often.
GRACE = timedelta(hours=1)
RETRY = timedelta(seconds=30)
NOTED_EACH = timedelta(minutes=1)
# The asker gives up before. Others look so often, in seconds, whether it has an answer, in half of a web server's threads.
LONGEST_ANSWER = timedelta(seconds=provider.ALL_WITHIN + 5)
WAIT_EACH = 0.1
_waiting = BoundedSemaphore(max(1, conf.WEB_THREADS // 2))
# Who vouches for a person whom the provider does not: an authenticating proxy.
PROXY = "the proxy"
# How long a broken glass lets somebody in.
EMERGENCY = timedelta(hours=1)
# The name that `clusteragent breakglass` gives, which nobody may take before.
BREAKGLASS = "breakglass"

# Of what the provider gave to be asked again.
_RENEWAL = ("operators.identities", "renewal")

log = structlog.get_logger()


def found(user_id: int) -> tuple[Any, str]:
    """Return the user, None if there is none, and why the user may not act, empty if so. It may ask the provider.

    Whoever has a role, or is in a group that admins made, counts as staff, so may use the admin.
    """
    has_role = Exists(Group.objects.filter(user=OuterRef("pk")))
    rows = User.objects.select_related("identity", "broken_glass").annotate(has_role=has_role, now=Now())
    user: Any = rows.filter(pk=user_id).first()
    if user is None:
        return None, "it is gone"
    reason = why_not(user, user.now)
    if reason == CHANGED:
        return found(user_id)
    user.is_staff |= user.has_role
    return user, reason


# The provider said something new of the user just now.
CHANGED = "changed"


def why_not(user: Any, now: datetime) -> str:
    """Why a user may not act now, empty if it may; CHANGED if it must be read again."""
    if not user.is_active:
        return "it is inactive"
    glass: BrokenGlass | None = getattr(user, "broken_glass", None)
    if glass is not None and glass.ends_at <= now:
        return f"it was let in until {glass.ends_at:%H:%M} UTC: clusteragent breakglass lets somebody in again"
    identity = of(user)
    if identity is None:
        return ""
    if identity.issuer not in {conf.OIDC_ISSUER, PROXY if conf.LOGIN_PROXIES else ""}:
        return f"it logged in by {identity.issuer}, by which nobody logs in any more"
    if now - identity.confirmed_at < conf.OIDC_CONFIRMED_EACH:
        return str(identity.refusal)
    return _ask_again(identity, now)


def of(user: Any) -> Identity | None:
    """What the provider says of a user; None of one who does not log in by it."""
    return getattr(user, "identity", None)


def told(user: Any, now: datetime) -> str:
    """What lets a user in, in words."""
    glass: BrokenGlass | None = getattr(user, "broken_glass", None)
    if glass is not None:
        return (
            f"an emergency's password, {'until' if glass.ends_at > now else 'which ended at'} {moment(glass.ends_at)}"
        )
    identity = of(user)
    if identity is None:
        return "password" if user.has_usable_password() and conf.LOCAL_LOGIN else "tokens alone"
    said = identity.refusal or f"in {listed(identity.groups) or 'no group'}"
    return f"{identity.issuer}: {said}, {ago(now - identity.confirmed_at)}"


def logs_in_by_password(user: Any) -> bool:
    """Whether a password lets this user in: none of the provider's people, and with local login off only in an emergency."""
    return of(user) is None and (conf.LOCAL_LOGIN or hasattr(user, "broken_glass"))


def _ask_again(identity: Identity, now: datetime) -> str:
    renewal = _opened(identity.renewal)
    if not renewal:
        return str(identity.refusal) or "its login is not confirmed for longer: log in again"
    row = Identity.objects.filter(pk=identity.pk)
    # One caller asks. A provider that takes a renewal only once ends all of the person's when two use it.
    is_due = identity.asked_at <= now - RETRY or identity.asked_at <= identity.confirmed_at
    if is_due and row.filter(asked_at=identity.asked_at).update(asked_at=Now()):
        if _is_answered(identity, renewal):
            return CHANGED
        row.update(unanswered_at=Now())
    elif (is_told := _wait_for_answer(identity)) is not False:
        return CHANGED if is_told else "the provider is just asked whether it still has its groups: try again"
    if now - identity.confirmed_at >= conf.OIDC_CONFIRMED_EACH + GRACE:
        return "the provider can't be asked whether it still has its groups"
    return str(identity.refusal)


def _is_answered(identity: Identity, renewal: str) -> bool:
    """Ask the provider about a person and keep what it says. Returns whether it said anything."""
    try:
        _note(identity.user, provider.renew(identity.subject, renewal), asked_with=identity.renewal)
    except Unreachable as error:
        log.warning("provider_unreachable", issuer=identity.issuer, reason=str(error))
        return False
    except Denied as error:
        _lose(identity, f"the provider does not confirm it any more ({escape_controls(str(error))}): log in again")
    return True


def _wait_for_answer(identity: Identity) -> bool | None:
    """Return whether the provider said something of the person since, once nobody asks it any more.

    None if too many wait already: whoever left must not act by the last word meanwhile.
    """
    lately = Q(asked_at__gt=F("confirmed_at")) & Q(asked_at__gt=Now() - LONGEST_ANSWER)
    is_asked = Identity.objects.filter(lately, pk=identity.pk).exclude(unanswered_at__gte=F("asked_at"))
    if is_asked.exists():
        if not _waiting.acquire(blocking=False):
            return None
        try:
            while is_asked.exists():
                sleep(WAIT_EACH)
        finally:
            _waiting.release()
    return not Identity.objects.filter(pk=identity.pk, confirmed_at=identity.confirmed_at).exists()


def enter(person: Person, issuer: str = "") -> tuple[Any, str]:
    """Return the user of a person who logged in by the provider, made if need be, and why it may not act, empty if it may.

    issuer: who vouches for the person if it is not the provider. Raises Denied when no user can be made.
    """
    issuer = issuer or conf.OIDC_ISSUER
    # A page's calls come together: one of them makes the user, and the others find it.
    with suppress(IntegrityError):
        return _entered(person, issuer)
    return _entered(person, issuer)


def _entered(person: Person, issuer: str) -> tuple[Any, str]:
    with transaction.atomic():
        identity = Identity.objects.filter(issuer=issuer, subject=person.subject).select_for_update().first()
        user = identity.user if identity else _made(person, issuer)
        _note(user, person)
    return found(user.pk)


def still_vouched(user: Any) -> None:
    """Note, once a minute at most, that the proxy vouches for this user with the same groups as before."""
    Identity.objects.filter(user=user, confirmed_at__lt=Now() - NOTED_EACH).update(confirmed_at=Now())


def _made(person: Person, issuer: str) -> User:
    if not _roles(person.groups):
        raise Denied(_NO_ROLE.format(groups=listed(person.groups) or "none"))
    # As Django keeps it: letters that look alike may be one, and one may become several.
    name = User.normalize_username(person.name)[:MOST_OF_NAME].strip()
    if not name:
        raise Denied("the provider gives no name that can be kept")
    if name == BREAKGLASS:
        raise Denied(f"the name {name} is kept for emergencies")
    # As Django's form for users: names that differ in capital letters alone are one name.
    if user := User.objects.filter(username__iexact=name).first():
        who = (
            "another person"
            if (theirs := of(user)) and theirs.issuer == issuer
            else f"somebody who does not log in by {issuer}"
        )
        raise Denied(f"the user {user} is {who}: an admin renames or deletes it first")
    user = User.objects.create_user(name, person.email)
    Identity.objects.create(user=user, issuer=issuer, subject=person.subject)
    with known_as(name):
        record(Act.Verb.MAKE, f"user {name}", after={"issuer": issuer, "subject": person.subject})
    return user


_NO_ROLE = "none of its groups ({groups}) has a role here"


@transaction.atomic
def _note(user: User, person: Person, asked_with: Any = None) -> None:
    """Keep what was said of a person. asked_with: the renewal by which it was asked; another login meanwhile counts instead."""
    roles = _roles(person.groups)
    refusal = "" if roles else _NO_ROLE.format(groups=listed(person.groups) or "none")
    if _asked(user, asked_with).update(
        groups=list(person.groups), renewal=_closed(person.renewal), confirmed_at=Now(), asked_at=Now(), refusal=refusal
    ):
        _set_roles(user, roles)


@transaction.atomic
def _lose(identity: Identity, refusal: str) -> None:
    if _asked(identity.user, identity.renewal).update(renewal=b"", confirmed_at=Now(), refusal=refusal):
        _set_roles(identity.user, ())


def _asked(user: User, renewal: Any) -> QuerySet[Identity]:
    rows = Identity.objects.filter(user=user)
    return rows if renewal is None else rows.filter(renewal=renewal)


def _set_roles(user: User, roles: Collection[str]) -> None:
    """Give the user these roles and nothing else: what the provider's people may do it alone decides."""
    before = sorted(user.groups.values_list("name", flat=True))
    if user.is_superuser:
        User.objects.filter(pk=user.pk).update(is_superuser=False)
    if before != sorted(roles) or user.is_superuser:
        user.groups.set(Group.objects.filter(name__in=roles))
        user.user_permissions.clear()
        with known_as(user.get_username()):
            record(
                Act.Verb.CHANGE,
                f"roles of user {user}",
                before=before,
                after=sorted(roles),
                reason="the provider's groups",
            )


def _roles(groups: Collection[str]) -> list[str]:
    """The groups here that members of these groups of the provider get: roles, and those that admins made."""
    wanted = [name for name, theirs in conf.GROUP_ROLES.items() if set(groups) & set(theirs)]
    unknown = unknown_groups(wanted)
    if unknown:
        log.warning("group_unknown", option="CLUSTERAGENT_GROUP_ROLES", groups=unknown)
    return sorted(set(wanted) - set(unknown))


def _closed(renewal: str) -> bytes:
    return cipher(*_RENEWAL).encrypt(renewal.encode()) if renewal else b""


def _opened(renewal: Any) -> str:
    """The renewal in clear; empty if there is none, or if the secret key is another one since."""
    try:
        return cipher(*_RENEWAL).decrypt(bytes(renewal)).decode() if renewal else ""
    except InvalidToken:
        return ""


def let_in(username: str, password: str) -> datetime:
    """Let this user in by this password for an hour, as an admin, whatever CLUSTERAGENT_LOCAL_LOGIN says. Returns the end.

    Raises Denied if there is such a user who was not let in like this before.
    """
    with transaction.atomic():
        user = User.objects.filter(username=username).select_for_update().first()
        if user is not None and not BrokenGlass.objects.filter(user=user).exists():
            raise Denied(f"there is a user {username}: take another name")
        user = user or User(username=username)
        user.set_password(password)
        user.is_active, user.is_superuser = True, False
        user.save()
        # What somebody kept of an emergency before opens nothing in this one.
        user.user_permissions.clear()
        AuthToken.objects.filter(user=user).delete()
        user.groups.set(Group.objects.filter(name=Role.ADMIN))
        glass, _ = BrokenGlass.objects.update_or_create(user=user, defaults={"ends_at": Now() + EMERGENCY})
        glass.refresh_from_db()
        record(Act.Verb.MAKE, f"user {username}, let in until {glass.ends_at:%H:%M} UTC", after={"roles": [Role.ADMIN]})
        return glass.ends_at
