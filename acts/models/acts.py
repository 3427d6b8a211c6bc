"""Acts: what people did, and through which entrance. The database refuses to change or delete one before its time."""

from __future__ import annotations

from typing import Any, ClassVar

from django.db import connection, models
from django.db.models import Q
from django.db.models.functions import Now

from clusteragent.lib import conf
from clusteragent.lib.clock import ago
from clusteragent.lib.database import bulk
from clusteragent.lib.database.rehearsal import outermost

# How the credential of an act by a token begins.
BEARER = "token "
# What people store that holds from then on, as objects of acts begin.
STORED = ("rule", "node rule", "pin of", "pause of", "isolation of")
# The actor of moves that a command makes, after a person's name in brackets; its act names the person alone.
COMMAND_LINE = "command line"
BY_COMMAND = f" ({COMMAND_LINE})"
# Verbs of what holds from then on, and of what moves at once.
ORDERS = ("pin", "unpin", "pause", "resume", "isolate", "release", "freeze", "thaw")
MOVING = ("reassign", "rebalance", "undo")


class ActQuerySet(models.QuerySet["Act"]):
    """Queries of acts, and their pruning."""

    def of_config(self, config_id: int) -> ActQuerySet:
        """The acts on a config."""
        return self.filter(about__contains={"configs": [config_id]})

    def of_node(self, name: str) -> ActQuerySet:
        """The acts on the node of this name."""
        return self.filter(about__contains={"nodes": [name]})

    def by_token(self, beginning: str) -> ActQuerySet:
        """The acts by operators' tokens that begin like this."""
        return self.filter(credential__startswith=f"{BEARER}{beginning}")

    def steering(self) -> ActQuerySet:
        """The acts by which people steer: rules, orders, freezes and accepted removals, of which what follows may come later,
        and what moves configs at once.
        """
        stored = Q()
        for kind in STORED:
            stored |= Q(object__startswith=f"{kind} ")
        verbs = Act.Verb
        changes = Q(verb__in=(verbs.MAKE, verbs.CHANGE, verbs.DELETE))
        return self.filter(changes & stored | Q(verb__in=(*ORDERS, *MOVING, verbs.ACCEPT)))

    def prune(self, most: float = bulk.MOST) -> int:
        """Delete at most `most` acts that are past their retention, in batches. Returns how many."""
        old = self.filter(time__lt=ago(conf.ACT_RETENTION)).order_by("time").values_list("pk", flat=True)
        pruned = 0
        while pruned < most and (keys := list(old[: int(min(bulk.BATCH, most - pruned))])):
            with outermost(), connection.cursor() as cursor:
                # Not the ORM: what the trigger that keeps acts asks for, until the end of this transaction.
                cursor.execute("SET LOCAL clusteragent.pruning = 'on'")
                self.filter(pk__in=keys).delete()
                cursor.execute("SET LOCAL clusteragent.pruning = 'off'")
            pruned += len(keys)
        return pruned


def act_verbs() -> list[tuple[str, str]]:
    """Return the choices of an act's verb. They are given as a function, so that a new verb needs no migration."""
    return Act.Verb.choices


class Act(models.Model):
    """What a person did. Written in the transaction that did it, or, of a deed of several, before the first."""

    class How(models.TextChoices):
        """The entrances."""

        # What people call it: *admin* is a role and often a user, too.
        ADMIN = "admin", "web"
        API = "API", "operators' API"
        COMMAND = "command", "command"
        LOCAL = "local API", "local API"

    class Verb(models.TextChoices):
        REASSIGN = "reassign"
        PIN = "pin"
        UNPIN = "unpin"
        PAUSE = "pause"
        RESUME = "resume"
        ISOLATE = "isolate"
        RELEASE = "release"
        REBALANCE = "rebalance"
        UNDO = "undo"
        ADOPT = "adopt"
        DRAIN = "drain"
        CORDON = "cordon"
        UNCORDON = "uncordon"
        FORGET = "forget"
        FREEZE = "freeze"
        THAW = "thaw"
        DISPATCH = "dispatch"
        EXPIRE = "expire"
        SCAN = "scan"
        ACCEPT = "accept removals"
        MAKE = "make"
        CHANGE = "change"
        DELETE = "delete"
        REPLACE = "replace"
        IMPORT = "import"
        EXPORT = "export"
        PRUNE = "prune"
        LOG_IN = "log in"
        LOG_OUT = "log out"
        FAIL = "fail to log in"
        REFUSE = "refuse"
        LOCK_OUT = "lock out"
        UNLOCK = "unlock"

    # By the database's clock.
    time = models.DateTimeField(db_default=Now())
    # The user's name, or who runs the command.
    person = models.CharField(max_length=253)
    how = models.CharField(max_length=16, choices=How)
    # The client's address; of a command the account and the machine.
    address = models.CharField(max_length=253, db_default="")
    # By what the client was known: `session`, or `token 1a2b…, for deploys`. Empty for commands and the local API, for
    # strangers, and where an older version wrote it.
    credential = models.CharField(max_length=253, db_default="")
    verb = models.CharField(max_length=16, choices=act_verbs)
    # What it was done to, in the words of that time.
    object = models.TextField()
    before = models.JSONField(null=True)
    after = models.JSONField(null=True)
    # What was foreseen when it was done; who did it by a page had seen that, or more: {"sentences": […], "worse": […],
    # "tables": {title: rows}}.
    foreseen = models.JSONField(null=True)
    # The plan that it applied, if any.
    plan = models.BigIntegerField(null=True)
    reason = models.TextField(db_default="")
    # {"configs": [id], "nodes": [name]}: on whose pages it is shown.
    about = models.JSONField(db_default={})

    objects: ClassVar[Any] = ActQuerySet.as_manager()

    class Meta:
        ordering = ["-id"]
        default_permissions = ("view",)
        # Another, of `about`, is made by the migration: see of_config and of_node.
        indexes = [models.Index(fields=["time"], name="act_by_time")]

    def __str__(self) -> str:
        # Who is named did not refuse it.
        return f"{'was refused:' if self.verb == self.Verb.REFUSE else self.verb} {self.object}"
