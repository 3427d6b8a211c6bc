"""What the leaders of all terms must agree on, beside the map."""

from django.db import models


class Announcement(models.Model):
    """One row: what the webhook was told, and the message that is on its way, whoever leads when it arrives."""

    # Of the last message. A receiver that is told a number twice can drop the second.
    number = models.BigIntegerField(db_default=0)
    # {need's key: as it was told}
    told = models.JSONField(default=dict, db_default={})
    pending = models.JSONField(null=True)
    # What `told` becomes when the pending message arrived.
    then_told = models.JSONField(null=True)
    attempts = models.PositiveIntegerField(db_default=0)
    next_attempt = models.DateTimeField(null=True)

    class Meta:
        constraints = [models.CheckConstraint(name="announcement_is_one_row", condition=models.Q(id=1))]

    def __str__(self) -> str:
        return f"message {self.number}"
