"""The texts of configs before their edits, kept as long as the moves in the ledger."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime
from difflib import unified_diff
from typing import Any, ClassVar, NamedTuple

from django.db import connection, models
from django.db.models.functions import Now

from checks.wire import patching
from checks.wire.options import made_by_us

# The most lines of one diff.
MOST_LINES = 400


class Change(NamedTuple):
    """An edit for display. diff: lines as of `diff -u`, without secrets; empty when only secrets changed."""

    time: datetime
    actor: str
    diff: list[str]


class EditQuerySet(models.QuerySet["Edit"]):
    """Records and reads edits."""

    # Not the ORM: the texts are copied within the database, since fetching them takes longer than the edit itself.
    _NOTE = r"""
        INSERT INTO checks_edit (config_id, actor, text, made_with, time)
        SELECT id, %s, text, coalesce(substring(patched_with from '^.*\.'), ''), statement_timestamp()
        FROM checks_config WHERE id = ANY(%s) ORDER BY id
    """

    def note(self, config_ids: Collection[int], actor: str) -> None:
        """Record the present texts of these configs. Call it in the transaction that changes their bytes."""
        if config_ids:
            with connection.cursor() as cursor:
                cursor.execute(self._NOTE, [actor, list(config_ids)])

    def changes(self, config_id: int, text: str, number: int) -> list[Change]:
        """Return at most `number` last edits of a config, the newest first. text: its present display text."""
        found = []
        for edit in self.filter(config_id=config_id).order_by("-id")[:number]:
            before = edit.text if made_by_us(edit.made_with) else patching.hidden_again(edit.text)
            found.append(Change(edit.time, edit.actor, differing(before, text)))
            text = before
        return found


def differing(before: str, after: str) -> list[str]:
    """What differs between two texts: lines as of `diff -u`, at most MOST_LINES, and how many more there are."""
    diff = list(unified_diff(before.splitlines(), after.splitlines(), n=2, lineterm=""))[2:]
    left_out = len(diff) - MOST_LINES
    return [*diff[:MOST_LINES], f"… {left_out} more lines"] if left_out > 0 else diff


class Edit(models.Model):
    """An edit: a config got other bytes in place. Like the ledger it outlives the config."""

    config_id = models.BigIntegerField()
    actor = models.CharField(max_length=253, db_default="")
    # The scrubbed text before the edit. The text after it is in the next edit, or in the config.
    text = models.TextField()
    # Which version made this copy: the beginning of the config's patched_with.
    made_with = models.CharField(max_length=64, db_default="")
    time = models.DateTimeField(db_default=Now())

    objects: ClassVar[Any] = EditQuerySet.as_manager()

    class Meta:
        indexes = [
            models.Index(fields=["config_id", "-id"], name="edit_of_config"),  # a config's page
            models.Index(fields=["time"], name="edit_by_time"),  # pruning
        ]

    def __str__(self) -> str:
        return f"{self.config_id} edited at {self.time:%H:%M:%S}"
