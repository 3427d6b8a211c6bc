"""The forms of orders, for the actions on configs and for the pages of orders. Each form decides on its order."""

from collections.abc import Callable, Collection
from datetime import datetime, timedelta
from typing import Any

from django import forms
from django.core.exceptions import ValidationError
from django.http import HttpRequest
from unfold.widgets import (
    UnfoldAdminRadioSelectWidget,
    UnfoldAdminSelectWidget,
    UnfoldAdminTextInputWidget,
    UnfoldBooleanWidget,
)

from checks import plans
from checks.dispatcher import REFUSALS, Decision, Outside, deciding
from checks.dispatcher.acting import record_refusal
from checks.models import Config, Plan
from checks.models.orders import Isolation, Pause, Pin
from checks.wire.scrub import scrub
from clusteragent.lib import clock, deadlines

MOST_CHARACTERS = 10_000
# Of so many words between two commas one shows that they are IDs.
MOST_IDS = 5
ONCE, DAY, PINNED = "once", "day", "pinned"
# The action's page lists the nodes that accept configs under this id.
_NODE_INPUT = {"list": "accepting-nodes", "autocomplete": "off"}


class UntilWidget(UnfoldAdminTextInputWidget):
    """A time as people write it, in the zone that the page shows: times.js sends its name, and nothing where that is UTC."""

    def __init__(self) -> None:
        super().__init__(attrs={"data-zoned": "", "autocomplete": "off"})

    def value_from_datadict(self, data: Any, files: Any, name: str) -> Any:
        text = super().value_from_datadict(data, files, name)
        zone = data.get("zone")
        return deadlines.in_zone(text, deadlines.zone_of(zone)) if text and zone else text


class UntilField(forms.CharField):
    """The end of an order, or the deadline of a drain; None if it has none. told: what it means. empty: what none means."""

    def __init__(self, *, told: str = "", empty: str = "until someone ends it", **options: Any) -> None:
        help_text = f"{f'{told}: ' if told else ''}{deadlines.HELP}. Empty: {empty}."
        super().__init__(required=False, help_text=help_text, widget=UntilWidget, **options)

    def clean(self, value: Any) -> datetime | None:
        text = super().clean(value)
        try:
            return deadlines.parse(text) if text else None
        except (ValueError, OverflowError) as error:
            raise ValidationError(str(error)) from None


def settle_ends(request: HttpRequest, form: forms.BaseForm) -> None:
    """Let the ends of a valid form be times, as the page that asks shows them: `2h` counts from when it was sent first."""
    sent = request.POST.copy()
    for name, field in form.fields.items():
        if isinstance(field, UntilField) and (end := form.cleaned_data.get(name)):
            sent[name] = end.isoformat()
    form.data = request.POST = sent  # type: ignore[assignment]


class NoteField(forms.CharField):
    """An author's note to the other operators."""

    def __init__(self) -> None:
        help_text = "Why: shown to other operators."
        super().__init__(
            required=False, max_length=MOST_CHARACTERS, help_text=help_text, widget=UnfoldAdminTextInputWidget
        )


class DecidingForm(forms.BaseForm):
    """The base of all forms of orders."""

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
            record_refusal("order", error)
            self.add_error(self.refusing_field or None, str(error))
        return None


class ReassignForm(DecidingForm, forms.Form):
    """The node that gets the configs, and for how long."""

    refusing_field = "node"

    node = forms.CharField(max_length=253, widget=UnfoldAdminTextInputWidget(attrs=_NODE_INPUT))
    hold = forms.ChoiceField(
        label="For how long",
        choices=[
            (ONCE, "Once: balancing may move them again"),
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


def _names(part: str, *, exact: bool) -> list[str]:
    """The configs that a part between two commas names: a title may have spaces, and several IDs may have spaces between them."""
    words = part.split()
    has_ids = any(Config.objects.called(word, exact=exact) for word in words[:MOST_IDS])
    return words if has_ids and not Config.objects.titled(part).exists() else [part] * bool(part)


class OrderForm(DecidingForm, forms.ModelForm):  # type: ignore[type-arg]
    """An order for configs that are named by title, short ID, digest or check ID. Without the field where they are chosen
    otherwise: an action has its own, and a stored order can't change its config.

    verb(config ids, …): decides to give them the order. decision: what a valid form orders; None where the configs are chosen
    otherwise, and for an order that waits for its origin.
    """

    verb: Callable[..., Decision]
    decision: Decision | None = None
    exact = False  # whether digests and check IDs are taken

    configs = forms.CharField(
        help_text="Titles or short IDs (for those who see them: digests or check IDs), with commas between them.",
        widget=UnfoldAdminTextInputWidget,
    )
    note = NoteField()

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if self.instance.pk:
            del self.fields["configs"]

    def clean_configs(self) -> list[int]:
        """The ids of the named configs. Raises ValidationError if a name is unknown."""
        parts = self.cleaned_data["configs"].split(",")
        names = [name for part in parts for name in _names(part.strip(), exact=self.exact)]
        if not names:
            raise ValidationError("no config is named")
        try:
            return Config.objects.ids_of(names, exact=self.exact)
        except LookupError as error:
            raise ValidationError(str(error)) from None

    def clean(self) -> Any:
        given = super().clean()
        ids = self.cleaned_data.get("configs") or [self.instance.config_id]
        if not self.errors and ids != [None]:
            try:
                self.decision = self.decide(ids)
            except Outside:
                raise
            except REFUSALS as refusal:
                raise ValidationError(scrub(str(refusal))) from None
            except ValidationError:
                pass  # the order itself is wrong: its model says so next
        return given

    def decide(self, config_ids: Collection[int]) -> Decision:
        order = {name: value for name, value in self.cleaned_data.items() if name != "configs"}
        return self.verb(config_ids, **order)


class PinForm(OrderForm):
    """Where the configs shall run."""

    verb = staticmethod(deciding.pin)

    kind = forms.ChoiceField(
        label="Pin them to", choices=Pin.Kind, initial=Pin.Kind.NODE, widget=UnfoldAdminSelectWidget
    )
    aim = forms.CharField(
        max_length=253, help_text="ash, or runner-*, or zone=a", widget=UnfoldAdminTextInputWidget(attrs=_NODE_INPUT)
    )
    waits = forms.BooleanField(
        label="Wait",
        required=False,
        help_text="While no such node accepts them they run nowhere. Otherwise they run elsewhere until then.",
        widget=UnfoldBooleanWidget,
    )
    until = UntilField()

    class Meta:
        model = Pin
        fields = ("kind", "aim", "waits", "until", "note")


class PauseForm(OrderForm):
    """Until when the configs run nowhere."""

    verb = staticmethod(deciding.pause)

    until = UntilField()

    class Meta:
        model = Pause
        fields = ("until", "note")


class IsolationForm(OrderForm):
    """Which configs are alone on their nodes."""

    verb = staticmethod(deciding.isolate)

    class Meta:
        model = Isolation
        fields = ("note",)
