"""Counts of failed logins, who logs in by the provider or for an hour, and the views of lists that people saved."""

from collections.abc import Collection
from datetime import timedelta
from typing import Any, NamedTuple

from django.contrib.auth.models import Group, User
from django.db import connection, models, transaction
from django.db.models import F, Q
from django.db.models.functions import Now

from acts.models import Act
from acts.recording import record
from clusteragent.lib.clock import ago

# Failures are counted together for this long. The table holds this many rows at most: a flood of names replaces its own rows.
WINDOW = timedelta(minutes=15)
MOST_ROWS = 30_000


class Count(NamedTuple):
    """A number of failures, and the seconds until they are forgotten."""

    number: int
    seconds: int


NONE = Count(0, 0)


class FailedLoginsQuerySet(models.QuerySet[Any]):
    """Counts of failed logins, each under a hashed key. A count starts at zero again after WINDOW."""

    def counts(self, keys: Collection[bytes]) -> dict[bytes, Count]:
        """Return {key: its current count} for all these keys."""
        rows = self.filter(key__in=keys, since__gt=ago(WINDOW)).annotate(age=Now() - F("since"))
        found = {bytes(row.key): Count(row.number, _left(row.age)) for row in rows}
        return {key: found.get(key, NONE) for key in keys}

    def add(self, keys: Collection[bytes]) -> dict[bytes, Count]:
        """Count one more failure under each key, and return {key: its new count}. Old rows are deleted on the way."""
        self.prune()
        # The ORM's upsert can't begin a new window where the old one is over.
        window: Any = WINDOW
        with connection.cursor() as cursor:
            cursor.execute(
                "INSERT INTO operators_failedlogins AS f (key, number, since)"
                " SELECT key, 1, statement_timestamp() FROM unnest(%s::bytea[]) AS key ORDER BY key"
                " ON CONFLICT (key) DO UPDATE SET"
                " number = CASE WHEN f.since > statement_timestamp() - %s THEN f.number + 1 ELSE 1 END,"
                " since = CASE WHEN f.since > statement_timestamp() - %s THEN f.since ELSE statement_timestamp() END"
                " RETURNING key, number, statement_timestamp() - since",
                [list(keys), window, window],
            )
            return {bytes(key): Count(number, _left(age)) for key, number, age in cursor.fetchall()}

    def take_back(self, keys: Collection[bytes]) -> None:
        """Count one failure less under each key."""
        self.filter(key__in=keys, number__gt=0).update(number=F("number") - 1)

    def forget(self, keys: Collection[bytes]) -> None:
        """Delete the counts under these keys."""
        self.filter(key__in=keys).delete()

    @transaction.atomic
    def unlock(self) -> int:
        """Delete all counts, on record, so that nobody is locked out. Returns how many were of failures: logins leave a 0."""
        failed = self.filter(number__gt=0).count()
        self.all().delete()
        record(Act.Verb.UNLOCK, "all logins", after={"counters": failed})
        return failed

    def prune(self, most: int = MOST_ROWS) -> int:
        """Delete counts whose window is over, and the oldest rows beyond `most`. Returns the number of deleted rows."""
        gone, _ = self.filter(pk__in=self.filter(since__lte=ago(WINDOW)).order_by("since").values("pk")[:1000]).delete()
        too_many = self.count() - most
        if too_many > 0:
            # A tenth more than needed, so that not every call has to delete.
            oldest = self.order_by("since").values("pk")[: too_many + most // 10]
            gone += self.filter(pk__in=oldest).delete()[0]
        return gone


def _left(age: timedelta) -> int:
    """Whole seconds until the window is over."""
    return max(1, int((WINDOW - age).total_seconds()) + 1)


class FailedLogins(models.Model):
    """How many logins failed lately: for a name, a network, both together, or a browser. The key reveals no name."""

    key = models.BinaryField(primary_key=True)
    number = models.PositiveIntegerField()
    since = models.DateTimeField(db_index=True)

    objects = FailedLoginsQuerySet.as_manager()

    class Meta:
        # Nobody looks at it or changes it.
        default_permissions = ()
        verbose_name_plural = "failed logins"

    def __str__(self) -> str:
        return f"{self.number} since {self.since}"


class Identity(models.Model):
    """A user who logs in by the OpenID provider, and what that said of the person last."""

    # No constraint, so that an older version that does not know the table can delete users during an upgrade.
    user = models.OneToOneField(User, on_delete=models.CASCADE, related_name="identity", db_constraint=False)
    # As the provider names itself and the person. Names may be given to another person, a subject never.
    issuer = models.TextField()
    subject = models.TextField()
    # The provider's groups.
    groups = models.JSONField(default=list)
    # What the provider is asked with again, encrypted. Empty where it gave nothing for that.
    renewal = models.BinaryField(default=b"", editable=False)
    # When it told this, and when it was asked last.
    confirmed_at = models.DateTimeField(db_default=Now())
    asked_at = models.DateTimeField(db_default=Now())
    # When it was known last that it gave no answer.
    unanswered_at = models.DateTimeField(null=True)
    # Why the person may not act, empty if it may.
    refusal = models.TextField(default="", blank=True)

    class Meta:
        # The provider's word alone changes it.
        default_permissions = ()
        verbose_name_plural = "identities"
        constraints = [models.UniqueConstraint(fields=["issuer", "subject"], name="user_of_one_person")]

    def __str__(self) -> str:
        return f"{self.subject} of {self.issuer}"


class BrokenGlass(models.Model):
    """A user whom a command let in for a short time, while the provider can't be asked."""

    user = models.OneToOneField(User, on_delete=models.CASCADE, related_name="broken_glass", db_constraint=False)
    ends_at = models.DateTimeField()

    class Meta:
        default_permissions = ()
        verbose_name_plural = "broken glass"

    def __str__(self) -> str:
        return f"{self.user} until {self.ends_at}"


class Purpose(models.Model):
    """What an operator's token is for, in the words of who made it."""

    MOST = 100

    # No constraint, so that an older version that does not know the table can delete tokens during an upgrade.
    token = models.OneToOneField(
        "knox.AuthToken", on_delete=models.CASCADE, related_name="purpose", db_constraint=False
    )
    text = models.CharField(max_length=MOST)

    class Meta:
        default_permissions = ()

    def __str__(self) -> str:
        return self.text


class Bound(models.Model):
    """What a role or a token lets people touch: sources for those who write, checks for those who steer. See `Reach`.

    Without a row it is everything.
    """

    # The longest pattern.
    MOST = 253

    # No constraints, so that an older version that does not know the table can delete groups and tokens during an upgrade.
    group = models.OneToOneField(
        Group, on_delete=models.CASCADE, null=True, blank=True, related_name="bound", db_constraint=False
    )
    token = models.OneToOneField(
        "knox.AuthToken", on_delete=models.CASCADE, null=True, blank=True, related_name="bound", db_constraint=False
    )
    sources = models.JSONField(default=list)
    checks = models.JSONField(default=list)

    class Meta:
        default_permissions = ()
        constraints = [models.CheckConstraint(condition=Q(group=None) ^ Q(token=None), name="bound_of_one")]

    def __str__(self) -> str:
        return ", ".join([*self.sources, *self.checks])


class SavedViewQuerySet(models.QuerySet[Any]):
    """Who sees which views."""

    def seen_by(self, user: Any) -> "SavedViewQuerySet":
        """The user's own views, and those that others share."""
        return self.filter(Q(owner=user) | Q(is_shared=True)).select_related("owner")


class SavedView(models.Model):
    """A list as somebody wants to see it again: its filters, the words of its bar and its order."""

    # The most of a user, in one list.
    MOST = 50

    # No constraint, so that an older version that does not know the table can delete users during an upgrade.
    owner = models.ForeignKey(User, on_delete=models.CASCADE, related_name="+", db_constraint=False)
    # The label of the list's model, as `checks.config`.
    of = models.CharField(max_length=100)
    name = models.CharField(max_length=100)
    # The parameters of the list's URL. `o` names columns: their numbers change with versions and with who looks.
    query = models.JSONField()
    is_shared = models.BooleanField(default=False)

    objects = SavedViewQuerySet.as_manager()

    class Meta:
        ordering = ["name", "pk"]
        default_permissions = ("delete",)
        permissions = [("share_savedview", "Can share saved views")]
        constraints = [models.UniqueConstraint(fields=["owner", "of", "name"], name="view_of_one_name")]

    def __str__(self) -> str:
        return self.name

    def told(self) -> dict[str, Any]:
        """What it says, as JSON data."""
        return {"owner": self.owner.get_username(), "query": self.query, "shared": self.is_shared}

    def named_for(self, user: Any) -> str:
        """Its name, for others than its owner with the owner."""
        return self.name if self.owner_id == user.pk else f"{self.name} of {self.owner.get_username()}"

    def is_deletable_by(self, user: Any) -> bool:
        """Whether this user, who sees it, may delete it: the owner or an administrator."""
        return bool(self.owner_id == user.pk or user.has_perm("operators.delete_savedview"))
