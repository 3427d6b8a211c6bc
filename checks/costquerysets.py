"""What configs cost, and the SQL that works it out of runners' stats for all of them at once."""

from __future__ import annotations

from django.db import models

from checks import models as clusterstore  # its classes take their managers from here, so it is looked up when called


class CostQuerySet(models.QuerySet["clusterstore.Cost"]):
    pass
