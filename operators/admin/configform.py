"""The form of a config that is written by hand: an editor for its YAML, which says what is wrong while it is written."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from django import forms
from django.core.exceptions import ValidationError
from django.db.models import QuerySet
from django.forms.utils import flatatt
from django.urls import reverse
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from django_ace import AceWidget
from unfold.widgets import UnfoldAdminTextareaWidget, UnfoldAdminTextInputWidget

from checks import dispatcher
from checks.dispatcher import Sent
from checks.explain import writing
from checks.models import Config, Source
from checks.sources import authored, origins
from checks.sources.authored import ADMIN, by_hand
from checks.wire import integrations, sharding, written
from checks.wire.lint import Notice
from checks.wire.patching import UnpatchableConfig
from checks.wire.scrub import scrub
from checks.wire.yamlnodes import InvalidYAML
from operators.admin.base import Table, first_of
from operators.admin.editing import REOPEN
from operators.admin.questions import MOST_LISTED, Question, goals, seen_of, tens

# By this a form says that the name of a check is meant as it is written.
AS_WRITTEN = "as_written"
# What a text is judged under while the form has no valid name for it.
UNNAMED = "unnamed"


class CheckInput(UnfoldAdminTextInputWidget):
    """A field for the name of a check, which offers those that the cluster has, and known integrations.

    doubted: a name that looks misspelt; a box below the field says that it is meant.
    """

    doubted = ""

    def render(self, name: str, value: Any, attrs: Any = None, renderer: Any = None) -> SafeString:
        known = f"{name}-known"
        field = super().render(name, value, {**(attrs or {}), "list": known}, renderer)
        checks = sorted({*integrations.known(), *Config.objects.values_list("name", flat=True).distinct()})
        options = format_html_join("", '<option value="{}">', ((check,) for check in checks))
        box = format_html(
            '<label class="block mt-2"><input type="checkbox" name="{}" value="{}"> Save it as {} all the same</label>',
            AS_WRITTEN, self.doubted, self.doubted,
        )  # fmt: skip
        return format_html('{}<datalist id="{}">{}</datalist>{}', field, known, options, box if self.doubted else "")


# What has the server look at the text.
CHANGES = "input changed delay:500ms, change from:[name=check], change from:[name=key]"


class YAMLEditor(AceWidget):
    """An editor for YAML, with what is wrong below it. Without scripts it is a plain field, and saving says what is wrong."""

    def __init__(self) -> None:
        super().__init__(
            mode="yaml",
            theme="github_light_default",
            width="100%",
            height=None,
            minlines=16,
            maxlines=60,
            tabsize=2,
            showprintmargin=False,
            toolbar=False,
            behaviours=False,
            useworker=False,
            useStrictCSP=True,
            attrs={
                "rows": 16,
                "spellcheck": "false",
                "class": " ".join([*UnfoldAdminTextareaWidget().attrs["class"].split(), "yaml-text"]),
                "hx-trigger": CHANGES,
                "hx-target": "#yaml-remarks",
                "hx-sync": "this:queue last",
            },
        )

    @property
    def media(self) -> forms.Media:
        dark = "django_ace/ace/theme-github_dark.js", "django_ace/ace/css/theme/github_dark.css"
        return super().media + forms.Media(js=[dark[0], "checks/editor.js"], css={"screen": [dark[1]]})

    def render(self, name: str, value: Any, attrs: Any = None, renderer: Any = None) -> SafeString:
        where = flatatt({"id": "yaml-remarks", "role": "status", "class": "yaml-remarks"})
        return format_html("{}<div{}></div>", super().render(name, value, attrs, renderer), where)


class ConfigForm(forms.ModelForm):  # type: ignore[type-arg]
    """A config in the format of config files, under a name that the operator chooses. A valid form has the config as `sent`."""

    key = forms.CharField(
        label="Name",
        max_length=253,
        validators=[authored.validate_name],
        help_text="Yours to choose. It can't be changed later.",
        widget=UnfoldAdminTextInputWidget,
    )
    check = forms.RegexField(
        r"^[A-Za-z0-9_.-]+$",
        max_length=253,
        help_text="The check that runs it, such as http_check.",
        error_messages={"invalid": "Letters, digits, underscores, dots and hyphens."},
        widget=CheckInput,
    )
    yaml = forms.CharField(
        label="YAML",
        strip=False,
        initial=authored.BEGINNING,
        help_text="As in a config file: init_config, instances, logs. It is a cluster check without saying so.",
        widget=YAMLEditor,
    )

    class Meta:
        model = Config
        fields: tuple[str, ...] = ()

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.sent: Sent | None = None
        remarks = reverse(
            "admin:checks_config_remarks", query={"config": self.instance.pk} if self.instance.pk else None
        )
        self.fields["yaml"].widget.attrs["hx-post"] = remarks
        if self.is_bound or self.instance.pk or getattr(self, REOPEN, None):
            # A text that is whole already.
            self.fields["yaml"].widget.attrs["hx-trigger"] = f"load, {CHANGES}"
        else:
            # Another check brings its template, but never in place of what somebody wrote.
            self.fields["yaml"].widget.attrs["data-template"] = reverse("admin:checks_config_template")
        if not self.instance.pk:
            self.fields["yaml"].help_text += _templates()
        if self.instance.pk and (origin := by_hand(self.instance)):
            self.fields["key"].disabled = True
            key = sharding.parent_of(origin.key)
            original = origins.original(ADMIN, key)
            self.initial = {
                "key": key,
                "check": original.name,
                "yaml": origins.written(ADMIN, key) or authored.text_of(original),
            }

    def clean_key(self) -> str:
        """The name. Raises ValidationError if another config has it."""
        key: str = self.cleaned_data["key"]
        if not self.instance.pk and origins.origins(ADMIN, key):
            raise ValidationError("There is a config of this name.")
        return key

    def clean_check(self) -> str:
        """The check. Raises ValidationError for a name that looks misspelt and is new, unless it is said to be meant."""
        check: str = self.cleaned_data["check"]
        meant = integrations.meant_by(check)
        if not meant or self.data.get(AS_WRITTEN) == check or Config.objects.filter(name=check).exists():
            return check
        self.fields["check"].widget.doubted = check
        raise ValidationError(f"No integration is called {check}: is {meant} meant?")

    def clean_yaml(self) -> str:
        """The text with its original line ends; browsers change them."""
        text: str = self.cleaned_data["yaml"]
        return text.replace("\r\n", "\n")

    def clean(self) -> None:
        super().clean()
        given = self.cleaned_data
        # What is wrong with the text is said at once with a doubt about the check's name, or about the config's.
        check = given.get("check") or self.fields["check"].widget.doubted
        if not (check and "yaml" in given):
            return
        try:
            sent = authored.written(given.get("key", UNNAMED), check, given["yaml"])
        except (InvalidYAML, dispatcher.Refused, UnpatchableConfig) as error:
            self.add_error("yaml", str(error))
        else:
            self.sent = sent if {"key", "check"} <= given.keys() else None

    def warn(self) -> list[Notice]:
        """Store the warnings about the written config and return them. The config is compared with others of its check."""
        assert self.sent is not None
        found = authored.warnings_about([self.sent], _others(self.sent.key))
        Source.objects.replace_warnings(ADMIN, {self.sent.key}, found)
        return found


def foresee(sent: Sent) -> Question:
    """Return the question about what saving this config would do, and what is odd. Raises Refused or UnpatchableConfig."""
    admitted = origins.admit(ADMIN, sent.key, sent.original, text=sent.written)
    effect = writing.save(ADMIN, [admitted], origins.known(ADMIN, [sent.key]))
    linted = sent.linted.besides(admitted.problem, admitted.warning)
    odd = authored.warnings_about([replace(sent, linted=linted)], _others(sent.key))
    rows = [(scrub(one.entry.shown), one.before or "not there", one.after or "gone") for one in effect.fates]
    going = [(number, one.after) for number, one in enumerate(effect.fates)]
    title = first_of("What would change", min(len(rows), MOST_LISTED), len(rows))
    return Question(
        f"Save {scrub(sent.key)}",
        [scrub(one) for one in effect.sentences if one != effect.nowhere],
        [*([effect.nowhere] if effect.lost else []), *(scrub(str(one)) for one in odd)],
        [Table(title, ("config", "now", "then"), rows[:MOST_LISTED])] if rows else [],
        seen_of(effect.about, effect.lost, tens(effect.peak), stops=effect.stops, moves=goals(going)),
        scrub(sent.key) if effect.lost else "",
        "Save",
        text=written.shown(sent.written),
    )


def remarks_on(fields: Mapping[str, Any], config: Config | None) -> dict[str, Any]:
    """What is wrong or odd in the text of a form that is being written, and what saving it would do.

    config: the one that is edited, if it exists.
    """
    origin = by_hand(config) if config else None
    key = sharding.parent_of(origin.key) if origin else ""
    check, yaml = str(fields.get("check", "")).strip(), str(fields.get("yaml", "")).replace("\r\n", "\n")
    found: dict[str, Any] = {"remarks": authored.remarks(check, yaml, _others(key))}
    named = key or str(fields.get("key", "")).strip()
    # A name that is taken already is the form's to refuse.
    if not named or any(one.is_error for one in found["remarks"]) or (not key and origins.origins(ADMIN, named)):
        return found
    try:
        authored.validate_name(named)
    except ValidationError:
        return found
    question = foresee(authored.written(named, check, yaml))
    # What is odd is among the remarks already.
    return found | {"foreseen": question, "worse": question.worse[:1] if question.word else []}


def _others(key: str) -> QuerySet[Config]:
    """All configs but those that were written by hand under this name."""
    return Config.objects.exclude(pk__in=[origin.config_id for origin in origins.origins(ADMIN, key)])


def _templates() -> SafeString:
    """Links that begin the form with a template."""
    links = format_html_join(
        ", ", '<a class="underline" href="?check={}">{}</a>', ((one, one) for one in authored.templates())
    )
    return format_html(" Begin with a template: {}.", links)
