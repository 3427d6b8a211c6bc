"""What operators fill in to write a config by hand."""

from typing import Any

from django import forms
from django.core.exceptions import ValidationError
from unfold.widgets import UnfoldAdminTextareaWidget, UnfoldAdminTextInputWidget

from checks import dispatcher
from checks.dispatcher.changes import Sent
from checks.models import Config, Source
from checks.sources import origins
from checks.sources.byhand import ADMIN, by_hand, odd, text_of, validate_name, written
from checks.wire import sharding
from checks.wire.lint import Notice
from checks.wire.patching import UnpatchableConfig
from checks.wire.yamlnodes import OddYAML

_EXAMPLE = "init_config:\ninstances:\n  - "


class ConfigForm(forms.ModelForm):  # type: ignore[type-arg]
    """A config in the format of config files, under a name that the operator gives. `sent` is it, once the form is valid."""

    key = forms.CharField(
        label="Name",
        max_length=253,
        validators=[validate_name],
        help_text="Yours to choose; the config keeps it for as long as it lives.",
        widget=UnfoldAdminTextInputWidget,
    )
    check = forms.RegexField(
        r"^[A-Za-z0-9_.-]+$",
        max_length=253,
        help_text="The check that runs it, such as http_check.",
        error_messages={"invalid": "Letters, digits, underscores, dots and hyphens."},
        widget=UnfoldAdminTextInputWidget,
    )
    yaml = forms.CharField(
        label="YAML",
        strip=False,
        initial=_EXAMPLE,
        help_text="As in a config file: init_config, instances, logs. It is a cluster check without saying so.",
        widget=UnfoldAdminTextareaWidget(attrs={"rows": 16, "spellcheck": "false", "style": "font-family: monospace"}),
    )

    class Meta:
        model = Config
        fields: tuple[str, ...] = ()

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.sent: Sent | None = None
        if self.instance.pk and (origin := by_hand(self.instance)):
            self.fields["key"].disabled = True
            key = sharding.parent_of(origin.key)
            original = origins.original(ADMIN, key)
            self.initial = {
                "key": key,
                "check": original.name,
                "yaml": origins.written(ADMIN, key) or text_of(original),
            }

    def clean_key(self) -> str:
        key: str = self.cleaned_data["key"]
        if not self.instance.pk and origins.origins(ADMIN, key):
            raise ValidationError("There is a config of this name.")
        return key

    def clean_yaml(self) -> str:
        """The text with the ends of lines that it had: browsers send others."""
        text: str = self.cleaned_data["yaml"]
        return text.replace("\r\n", "\n")

    def clean(self) -> None:
        super().clean()
        if {"key", "check", "yaml"} <= self.cleaned_data.keys():
            try:
                self.sent = written(**{name: self.cleaned_data[name] for name in ("key", "check", "yaml")})
            except (OddYAML, dispatcher.Refused, UnpatchableConfig) as error:
                self.add_error("yaml", str(error))

    def warn(self) -> list[Notice]:
        """Keep what is odd about the config that was written, beside others of its check, and return it."""
        assert self.sent is not None
        mine = [origin.config_id for origin in origins.origins(ADMIN, self.sent.key)]
        found = odd([self.sent], Config.objects.exclude(pk__in=mine))
        Source.objects.warn(ADMIN, {self.sent.key}, found)
        return found
