"""Deleting very many rows without a long transaction."""

from typing import Any

from django.db import models, transaction

# Rows that go in one transaction, and in one run: a statement that takes too long would be undone each time, for good.
BATCH, MOST = 5_000, 200_000


def delete(rows: models.QuerySet[Any], *, most: float = MOST, cascades: bool = False) -> int:
    """Delete the first of these rows, in their order, a batch after the other, each committed. Returns how many.

    What a run leaves, or is broken off from, the next one finds. cascades: with all that belongs to them.
    """
    gone = 0
    while gone < most and (keys := list(rows.values_list("pk", flat=True)[: int(min(BATCH, most - gone))])):
        with transaction.atomic(durable=True):
            deleted = _delete(rows.order_by().filter(pk__in=keys), cascades)
        if not deleted:
            break  # others hold them, or were faster
        gone += deleted
    return gone


def _delete(rows: models.QuerySet[Any], cascades: bool) -> int:
    if not cascades:
        return rows.delete()[0]
    locked = [row.pk for row in rows.select_for_update(of=("self",), skip_locked=True)]
    # Looked at again: whoever held a row before us may have changed what belongs to it, so that it should stay.
    keys = list(rows.filter(pk__in=locked).values_list("pk", flat=True))
    return int(rows.model._base_manager.filter(pk__in=keys).delete()[1].get(rows.model._meta.label, 0))
