"""The forms that order something of configs. Each form makes the plan of its order."""

from collections.abc import Collection
from datetime import datetime, timedelta
from typing import Any

from django import forms
from django.core.exceptions import ValidationError
from unfold.widgets import (
    UnfoldAdminRadioSelectWidget,
    UnfoldAdminSelectWidget,
    UnfoldAdminTextInputWidget,
    UnfoldBooleanWidget,
)

from checks import plans
from checks.dispatcher import REFUSALS, Decision, deciding
from checks.models import Plan
from checks.models.orders import Pin
from clusteragent.lib import clock, deadlines

MOST_CHARACTERS = 10_000
ONCE, DAY, PINNED = "once", "day", "pinned"


class UntilField(forms.CharField):
    """The end of an order; None if it ends only when someone ends it."""

    def __init__(self, **options: Any) -> None:
        help_text = f"{deadlines.HELP}. Empty: until someone ends it."
        super().__init__(required=False, help_text=help_text, widget=UnfoldAdminTextInputWidget, **options)

    def clean(self, value: Any) -> datetime | None:
        text = super().clean(value)
        try:
            return deadlines.parse(text) if text else None
        except (ValueError, OverflowError) as error:
            raise ValidationError(str(error)) from None


class NoteField(forms.CharField):
    """An author's note to the other operators."""

    def __init__(self) -> None:
        help_text = "Why: shown to other operators."
        super().__init__(
            required=False, max_length=MOST_CHARACTERS, help_text=help_text, widget=UnfoldAdminTextInputWidget
        )


class OrderForm(forms.Form):
    """The base of forms that order something of configs."""

    # The field that shows a refusal; empty: the form as a whole.
    refusing_field = ""

    def decide(self, config_ids: Collection[int]) -> Decision:
        """Return the decision for these configs. Raises REFUSALS."""
        raise NotImplementedError

    def plan(self, config_ids: Collection[int], actor: str) -> Plan | None:
        """Store and return the plan for these configs. If it is refused, add an error to the form and return None."""
        try:
            return plans.store(self.decide(config_ids), author=actor)
        except REFUSALS as error:
            self.add_error(self.refusing_field or None, str(error))
        return None


class ReassignForm(OrderForm):
    """The node that gets the configs, and for how long."""

    refusing_field = "node"

    node = forms.CharField(
        max_length=253, widget=UnfoldAdminTextInputWidget(attrs={"list": "accepting-nodes", "autocomplete": "off"})
    )
    hold = forms.ChoiceField(
        label="For how long",
        choices=[
            (ONCE, "Once: the next rebalance may move them away again"),
            (DAY, "For 24 hours: pinned there until then"),
            (PINNED, "Until someone unpins them"),
        ],
        initial=ONCE,
        required=False,
        widget=UnfoldAdminRadioSelectWidget,
    )
    note = NoteField()

    def decide(self, config_ids: Collection[int]) -> Decision:
        given = self.cleaned_data
        hold = given["hold"] in (DAY, PINNED)
        end = clock.now() + timedelta(days=1) if given["hold"] == DAY else None
        return deciding.reassign(config_ids, given["node"], hold=hold, until=end, note=given["note"])


class PinForm(OrderForm):
    """Where the configs shall run."""

    kind = forms.ChoiceField(
        label="Pin them to", choices=Pin.Kind, initial=Pin.Kind.NODE, widget=UnfoldAdminSelectWidget
    )
    aim = forms.CharField(
        max_length=253,
        help_text="ash, or runner-*, or zone=a",
        widget=UnfoldAdminTextInputWidget(attrs={"list": "accepting-nodes", "autocomplete": "off"}),
    )
    waits = forms.BooleanField(
        label="Wait",
        required=False,
        help_text="While no such node accepts them they run nowhere. Otherwise they run elsewhere until then.",
        widget=UnfoldBooleanWidget,
    )
    until = UntilField()
    note = NoteField()

    def clean(self) -> None:
        super().clean()
        if {"kind", "aim"} <= self.cleaned_data.keys():
            Pin(kind=self.cleaned_data["kind"], aim=self.cleaned_data["aim"]).clean()

    def decide(self, config_ids: Collection[int]) -> Decision:
        return deciding.pin(config_ids, **self.cleaned_data)


class PauseForm(OrderForm):
    """Until when the configs run nowhere."""

    until = UntilField()
    note = NoteField()

    def decide(self, config_ids: Collection[int]) -> Decision:
        return deciding.pause(config_ids, **self.cleaned_data)
