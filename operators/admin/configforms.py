"""What operators fill in to write a config by hand."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from django import forms
from django.core.exceptions import ValidationError
from django.db.models import QuerySet
from unfold.widgets import UnfoldAdminTextareaWidget, UnfoldAdminTextInputWidget
from yaml import MappingNode, SequenceNode

from checks import dispatcher
from checks.dispatcher.changes import Sent
from checks.models import Config, Origin, Source
from checks.sources import fileformat, origins
from checks.wire import sharding, yamlnodes
from checks.wire.lint import Linted, Notice, keys_of, lint, notices
from checks.wire.patching import IntegrationConfig, UnpatchableConfig
from checks.wire.yamlnodes import OddYAML

# The source whose configs are written by hand, in the admin.
ADMIN = "admin"
# With whose keys those of new configs are compared: of so many checks, so many configs each.
MOST_CHECKS = 50
MOST_OTHERS = 100
_EXAMPLE = "init_config:\ninstances:\n  - "


def validate_name(name: str) -> None:
    """One line without control characters, which can't be taken for the name of another config's shard."""
    if not name.isprintable():
        raise ValidationError("One line of printable characters.")
    if sharding.is_shard(name):
        raise ValidationError("Names that end in # and a number are those of shards.")


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


def odd(written: Sequence[Sent], others: QuerySet[Config]) -> list[Notice]:
    """What is odd about configs that were written here, also beside some others of the same checks."""
    mine = [(sent.key, sent.original.name, sent.linted) for sent in written]
    checks = sorted({check for _, check, _ in mine})[:MOST_CHECKS]
    theirs = [("", check, linted) for check in checks for linted in _keys(others.filter(name=check))]
    return [notice for notice in notices([*mine, *theirs]) if notice.where]


def _keys(configs: QuerySet[Config]) -> Iterator[Linted]:
    """The keys of the instances of the newest of these configs."""
    for original in configs.order_by("-pk").values_list("original", flat=True)[:MOST_OTHERS]:
        yield Linted(keys=tuple(map(keys_of, IntegrationConfig.from_json(original).instances)))


def by_hand(config: Config) -> Origin | None:
    """The origin under which a config was written by hand, if it was."""
    return min((origin for origin in config.origins.all() if origin.source == ADMIN), key=lambda o: o.key, default=None)


def written(key: str, check: str, yaml: str, source: str = ADMIN) -> Sent:
    """What a config that was written here, and in no file, sends. Raises OddYAML, Refused or UnpatchableConfig."""
    parsed = fileformat.parse(yaml, name=check, source=f"{source}:{key}")
    root = yamlnodes.read(yaml)
    if isinstance(root, MappingNode) and yamlnodes.get(root, "cluster_check") is not None and not parsed.cluster_check:
        raise OddYAML("cluster_check is off, but what is written here is dispatched: leave it out")
    config = replace(parsed, provider=source.partition(":")[0], cluster_check=True)
    return Sent(
        source, key, config, dispatcher.admit(config), linted=lint(yaml, check, written_here=True), written=yaml
    )


def text_of(config: IntegrationConfig) -> str:
    """The config in the format of config files."""
    logs = yamlnodes.read(config.logs or "")
    parts = {
        "init_config": yamlnodes.read(config.init_config or ""),
        "instances": SequenceNode(yamlnodes.SEQ, [yamlnodes.read(instance) for instance in config.instances]),
        "jmx_metrics": yamlnodes.read(config.metric_config or ""),
        "logs": yamlnodes.get(logs, "logs") if isinstance(logs, MappingNode) else None,
        "node_name": yamlnodes.text_node(config.node_name) if config.node_name else None,
        "ignore_autodiscovery_tags": yamlnodes.true() if config.ignore_autodiscovery_tags else None,
        "check_tag_cardinality": yamlnodes.text_node(config.check_tag_cardinality)
        if config.check_tag_cardinality
        else None,
    }
    root = yamlnodes.mapping()
    for key, part in parts.items():
        if part is not None:
            yamlnodes.put(root, key, part)
    return yamlnodes.write(root)
