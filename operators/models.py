"""What is kept of people who want to get in."""

from django.db import models

from operators.querysets import FailedLoginsQuerySet


class FailedLogins(models.Model):
    """How many logins failed of late: of a name, of a network, of both, or of a browser. No name can be read from its key."""

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
