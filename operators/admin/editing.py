"""Forms of rows that others may change while they are open: what would overwrite a colleague's edit is shown first."""

import hashlib
import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.contrib.admin.utils import unquote
from django.core.exceptions import ValidationError
from django.db import transaction
from django.http import HttpRequest, HttpResponse
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString

from acts.models import Act
from acts.recording import hidden, record
from checks.models import Config
from checks.models.edits import differing
from clusteragent.lib.words import utc, visible

# The field by which a form says what it was opened with.
FIELD = "opened"
# The button of a page that asks by which its form is opened again, as it was sent.
REOPEN = "reopened"

# Unfold's ModelAdmin is untyped; a class that derives from both must not get the types of Django's.
_DjangoModelAdmin: Any = admin.ModelAdmin
_ModelForm: Any = forms.ModelForm


class Changed(Exception):
    """A colleague saved the row between the moment in which its form was judged and that in which it was to be stored."""


class ReopenedForm(_ModelForm):
    """A form that, unbound, shows what was sent of it before: who looked at what it would do goes on writing.

    reopened: what that was; None if it is opened anew.
    """

    reopened: Any = None

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if self.reopened is not None:
            self.initial.update({name: self._sent_of(name) for name in self._edited()})

    def require_unchanged(self) -> None:
        """Raise Changed if the row does not say any more what the form was compared with. A new row says nothing.

        Call it in the transaction that stores the row, with the row or the store locked.
        """

    def _edited(self) -> list[str]:
        return [name for name, field in self.fields.items() if not field.disabled]

    def _sent_of(self, name: str) -> Any:
        field = self.fields[name]
        given = field.widget.value_from_datadict(self.reopened, {}, name)
        return field.bound_data(given, self.initial.get(name))


class OpenedForm(ReopenedForm):
    """The form of a stored row. It is invalid, and says what differs, if the row says something else than when it was opened.

    What comes back with that error is opened anew: saved once more, it overwrites what was shown.
    """

    last_change: Callable[[Any], tuple[str, datetime] | None]
    has_shown = False

    @property
    def mark(self) -> str:
        """What stands for all that the row said when who fills the form in saw it last."""
        before = self.data if self.is_bound else self.reopened
        return self._now() if before is None or self.has_shown else str(before.get(FIELD, ""))

    def require_unchanged(self) -> None:
        row = type(self.instance)._base_manager.filter(pk=self.instance.pk).first()
        if row is None or type(self)(instance=row)._now() != self._now():
            raise Changed(
                "A colleague saved it at the same moment, so nothing was saved. Save once more to see what differs."
            )

    def _now(self) -> str:
        """What stands for all that the row says now in the fields of the form."""
        said = [(name, _text(self.get_initial_for_field(self.fields[name], name))) for name in self._edited()]
        return hashlib.sha256(repr(said).encode()).hexdigest()

    def clean(self) -> Any:
        given = super().clean()
        # Only where all fields are understood: what differs must be shown whole.
        if not self.errors and self.data.get(FIELD) != self._now() and (changes := list(self._changes())):
            self.has_shown = True
            self.add_error(None, ValidationError(self._refusal(changes)))
        return given

    def _changes(self) -> Iterator[tuple[str, SafeString]]:
        """(label, what differs) of each field that would not be as the row says now."""
        for name in self._edited():
            now = _text(self.get_initial_for_field(self.fields[name], name))
            if (sent := _text(self.cleaned_data.get(name))) != now:
                yield str(self[name].label), _difference(now, sent)

    def _refusal(self, changes: list[tuple[str, SafeString]]) -> SafeString:
        """Who changed the row, and what saving would change of that."""
        change = self.last_change(self.instance)
        who = f"{change[0] or 'Somebody'} changed it {utc(change[1])}" if change else "Somebody changed it"
        why = f"{who}, after this form was opened." if self.data.get(FIELD) else "It is not known when this was opened."
        told = format_html_join("", '<p class="mt-2">{}:</p><pre class="config-text diff">{}</pre>', changes)
        return format_html(
            "<p>{} Nothing was saved. Below, - is what it says now, and + what you would make of it. Save once more if that is"
            " meant.</p>{}",
            why,
            told,
        )


class WatchedForms(_DjangoModelAdmin):
    """Forms that do not overwrite unseen what others changed after they were opened. Name it before unfold's ModelAdmin."""

    change_form_before_template = "admin/opened.html"

    class Media:
        # How a text that differs is shown.
        css = {"all": ["checks/config.css"]}

    def get_form(self, request: HttpRequest, obj: Any = None, change: bool = False, **kwargs: Any) -> Any:
        form = super().get_form(request, obj, change=change, **kwargs)
        said = {"reopened": getattr(request, REOPEN, None), "last_change": staticmethod(self.last_change)}
        is_watched = obj is not None and self.has_change_permission(request, obj)
        return type(form.__name__, (OpenedForm if is_watched else ReopenedForm, form), said)

    def get_object(self, request: HttpRequest, object_id: str, from_field: str | None = None) -> Any:
        """The row. One that is to be stored in this transaction is locked first, so that no colleague saves it meanwhile."""
        obj = super().get_object(request, object_id, from_field)
        if obj is None or request.method != "POST" or not transaction.get_connection().in_atomic_block:
            return obj
        self.model._base_manager.select_for_update().filter(pk=obj.pk).first()
        return super().get_object(request, object_id, from_field)

    def changeform_view(
        self, request: HttpRequest, object_id: str | None = None, form_url: str = "", extra_context: Any = None
    ) -> HttpResponse:
        """Show or save a row. What is not saved since a colleague did is on record."""
        try:
            response: HttpResponse = super().changeform_view(request, object_id, form_url, extra_context)
        except Changed as changed:
            messages.error(request, str(changed))
            show_again(request)
            response = super().changeform_view(request, object_id, form_url, extra_context)
            why = "changed at the same moment"
        else:
            form = getattr((getattr(response, "context_data", None) or {}).get("adminform"), "form", None)
            why = "changed since it was opened" if getattr(form, "has_shown", False) else ""
        if why and object_id:
            obj = self.get_object(request, unquote(object_id))
            record(
                Act.Verb.REFUSE,
                f"save {self.opts.verbose_name} {obj}",
                reason=why,
                configs=_configs_of(obj),
            )
        return response

    def last_change(self, obj: Any) -> tuple[str, datetime] | None:
        """Who changed the row last, and when, as far as that is on record."""
        verbs = Act.Verb.MAKE, Act.Verb.CHANGE
        acts = Act.objects.filter(verb__in=verbs, object=hidden(f"{self.opts.verbose_name} {obj}"))
        return acts.order_by("-time").values_list("person", "time").first()


def reopen(request: HttpRequest) -> bool:
    """Let the form be shown as it was sent, if that is asked for; return whether it is."""
    if request.method != "POST" or REOPEN not in request.POST:
        return False
    show_again(request)
    return True


def _configs_of(obj: Any) -> list[int]:
    """The id of the config that a row is, or is about; none of others."""
    found = obj.pk if isinstance(obj, Config) else getattr(obj, "config_id", None)
    return [found] if found else []


def show_again(request: HttpRequest) -> None:
    """Let the form be shown as it was sent."""
    setattr(request, REOPEN, request.POST)
    request.method = "GET"


def _difference(now: str, sent: str) -> SafeString:
    """What differs between two texts, by lines."""
    tags = {"+": "<ins>{}</ins>", "-": "<del>{}</del>"}
    lines = [f"{line[0]} {line[1:]}" for line in differing(now, sent) if not line.startswith("@@")]
    shown = [format_html(tags.get(line[0], "{}\n"), visible(line)) for line in lines or ["the ends of its lines"]]
    return format_html_join("", "{}", ((line,) for line in shown))


def _text(value: Any) -> str:
    """What a field says, as a text."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat(timespec="seconds")
    if isinstance(value, dict):
        return json.dumps(value, sort_keys=True, ensure_ascii=False)
    if isinstance(value, str | int | float):
        return str(value)
    return ", ".join(sorted(str(one) for one in value))
