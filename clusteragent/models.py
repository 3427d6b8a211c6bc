"""State of the leader's tasks that the next leader needs."""

from django.db import models


class Announcement(models.Model):
    """One row: which alerts the webhook was told, and the pending message. Any leader sends it until it arrives."""

    # The last message's number. A receiver that gets a number twice can drop the second message.
    number = models.BigIntegerField(db_default=0)
    # {alert's key: the alert as it was sent}
    told = models.JSONField(default=dict, db_default={})
    pending = models.JSONField(null=True)
    # The value of `told` after the pending message has arrived.
    then_told = models.JSONField(null=True)
    attempts = models.PositiveIntegerField(db_default=0)
    next_attempt = models.DateTimeField(null=True)

    class Meta:
        constraints = [models.CheckConstraint(name="announcement_is_one_row", condition=models.Q(id=1))]

    def __str__(self) -> str:
        return f"message {self.number}"
