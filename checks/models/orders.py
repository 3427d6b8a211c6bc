"""What people ordered of configs: pins, pauses, isolations and rules. Nothing that a source sends undoes them."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from datetime import datetime
from fnmatch import fnmatchcase
from typing import Any, ClassVar, Self

from django.core.exceptions import ValidationError
from django.core.validators import MinValueValidator
from django.db import models
from django.db.models import F, Func, Q, Value
from django.db.models.functions import Now

from checks.wire.sharding import parent_of
from clusteragent.lib.scrub import scrub
from nodes.models import validate_labels


class OrderQuerySet(models.QuerySet[Any]):
    def of(self, ids: Collection[int]) -> Self:
        """Orders about the configs with these ids."""
        # Mostly there are none, and asking with a thousand ids takes longer.
        return self.filter(config_id__in=ids) if ids and self.exists() else self.none()

    def waiting_for(self, keys: Iterable[tuple[str, str]]) -> Self:
        """Orders without a config that belong to these origins (source, key), to what those were cut from, or to shards.

        And some that belong to others: sources and keys are looked for each for itself.
        """
        if not self.filter(config=None).exists():
            return self.none()
        wanted = {(source, parent_of(key)) for source, key in keys}
        parent = Func(
            F("key"), Value("#[0-9]+$"), Value(""), function="regexp_replace", output_field=models.TextField()
        )
        return (
            self.filter(config=None, source__in={source for source, _ in wanted})
            .alias(parent=parent)
            .filter(parent__in={key for _, key in wanted})
        )

    def detach(self, ids: Collection[int]) -> None:
        """These configs go: what was ordered of them waits for their origins to come back."""
        if self.exists():
            self.filter(config_id__in=ids).update(config=None)


class Order(models.Model):
    """What someone ordered of a config. It follows the config's origin, also where that sends nothing for a while."""

    config = models.OneToOneField("checks.Config", models.SET_NULL, null=True, related_name="%(class)s")
    config_id: int | None
    source = models.CharField(max_length=253)
    key = models.TextField()
    author = models.CharField(max_length=253, blank=True)
    note = models.TextField(blank=True)
    time = models.DateTimeField(db_default=Now())

    objects: ClassVar[Any] = OrderQuerySet.as_manager()

    class Meta:
        abstract = True
        ordering = ["id"]

    def __str__(self) -> str:
        return scrub(f"{self.source}:{self.key}")


class TimedOrderQuerySet(OrderQuerySet):
    def in_force(self) -> Self:
        return self.filter(Q(until=None) | Q(until__gte=Now()))

    def over(self) -> Self:
        return self.filter(until__lt=Now())


class Pin(Order):
    """Where a config should run. While no such node accepts it, it runs elsewhere, or waits."""

    class Kind(models.TextChoices):
        NODE = "node", "the node"
        PATTERN = "pattern", "nodes whose names match"
        LABEL = "label", "nodes with the label"

    kind = models.CharField(max_length=8, choices=Kind, default=Kind.NODE)
    aim = models.CharField(max_length=253, help_text="ash, or runner-*, or zone=a")
    waits = models.BooleanField(
        default=False, help_text="Dangle while no such node accepts it, instead of running elsewhere."
    )
    until = models.DateTimeField(null=True, blank=True)

    objects: ClassVar[Any] = TimedOrderQuerySet.as_manager()

    def __str__(self) -> str:
        return f"{self.get_kind_display()} {self.aim}"

    def clean(self) -> None:
        if self.kind == self.Kind.LABEL and "=" not in self.aim:
            raise ValidationError({"aim": "a label is written as zone=a"})

    def matches(self, name: str, labels: Mapping[str, str]) -> bool:
        """Whether it aims at a node of that name and with these labels."""
        if self.kind == self.Kind.LABEL:
            label, _, value = self.aim.partition("=")
            return labels.get(label) == value
        return name == self.aim if self.kind == self.Kind.NODE else fnmatchcase(name, self.aim)


class Pause(Order):
    """A config that runs nowhere for now, and does not dangle. Without an end it stays so until someone resumes it."""

    until = models.DateTimeField(null=True, blank=True)

    objects: ClassVar[Any] = TimedOrderQuerySet.as_manager()


class Isolation(Order):
    """A config that is alone on its node until it is released."""

    class Reason(models.TextChoices):
        ISOLATED = "isolated", "someone isolated it"
        QUARANTINED = "quarantined", "the nodes that ran it died"

    reason = models.CharField(max_length=16, choices=Reason, default=Reason.ISOLATED)


class Rule(models.Model):
    """Which nodes may run the checks that it is about, and how many of them each."""

    name = models.CharField(max_length=253, unique=True)
    check_pattern = models.CharField("checks", max_length=253, default="*", help_text="Names, with * and ?: postgres*")
    source_pattern = models.CharField(
        "origins", max_length=253, default="*", help_text="With * and ?: file:postgres.d/*"
    )
    required = models.JSONField(
        "required labels", default=dict, blank=True, validators=[validate_labels], help_text='{"zone": "a"}'
    )
    forbidden = models.JSONField(
        "forbidden labels", default=dict, blank=True, validators=[validate_labels], help_text='{"disk": "slow"}'
    )
    max_per_node = models.PositiveIntegerField(null=True, blank=True, validators=[MinValueValidator(1)])
    author = models.CharField(max_length=253, blank=True, editable=False)
    note = models.TextField(blank=True)
    time: models.DateTimeField[datetime, datetime] = models.DateTimeField(db_default=Now(), editable=False)

    class Meta:
        ordering = ["name"]

    def __str__(self) -> str:
        return self.name

    def covers(self, check: str, origins: Collection[str]) -> bool:
        """Whether it is about a check of that name that one of these origins (`source:key`) sends."""
        return fnmatchcase(check, self.check_pattern) and (
            self.source_pattern == "*" or any(fnmatchcase(origin, self.source_pattern) for origin in origins)
        )


ORDERS: tuple[type[Order], ...] = (Pin, Pause, Isolation)
