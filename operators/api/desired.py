"""Reads the sets of configs that pipelines send. Each problem is reported at its index and field."""

import json
import re
from dataclasses import replace
from typing import Any

from django.core.exceptions import ValidationError as Unprintable
from rest_framework import serializers
from rest_framework.exceptions import ErrorDetail, ValidationError
from rest_framework.fields import empty

from checks import dispatcher
from checks.dispatcher.changes import Sent
from checks.sources import origins
from checks.sources.authored import validate_name, written
from checks.wire import lint, sharding
from checks.wire.patching import UnpatchableConfig
from checks.wire.scrub import MASK, scrub
from checks.wire.yamlnodes import MAX_DEPTH, InvalidYAML
from operators.api.fields import Options, Strict
from operators.api.parsers import TooLarge

MOST_CONFIGS = 20_000
MOST_PROBLEMS = 100
# The most bytes that node agents would get of one set. Aliases and deep nesting can make them many times what was sent, and
# a set is held in memory until it is dispatched. Of a set that takes the place of a small one so many: reading takes a second for
# each, and others wait for the place.
MOST_EXPANDED, MOST_OF_SMALL = 64 * 1024 * 1024, 16 * 1024 * 1024
# The overhead of a shard, in bytes.
_SHARD = 1024
PARTS = ("init_config", "instances", "logs")
# YAML takes these for line breaks or refuses them, and JSON need not escape them.
_ODD_IN_YAML = re.compile("[\x7f-\xa0\u2028\u2029\ufeff]")


class WrittenConfigs(serializers.ListSerializer[Any]):
    """A list of configs in their order. The problems of a config are reported under its index and field, with its name."""

    def run_validation(self, data: Any = empty) -> list[Sent]:
        if not isinstance(data, list):
            raise ValidationError(["A list of configs; an empty one removes all."])
        if len(data) > MOST_CONFIGS:
            raise ValidationError([f"{len(data)} configs; a source has {MOST_CONFIGS} at most."])
        configs: dict[str, Sent] = {}
        problems: dict[str, Any] = {}
        expanded, most = 0, MOST_EXPANDED if self.context["is_large"] else MOST_OF_SMALL
        for index, item in enumerate(data):
            try:
                sent = self._read(item, configs)
                configs[sent.key] = sent
                # About how many bytes of this config node agents get.
                shards = len(origins.cut(sent.original)) * (sharding.repeated(sent.original) + _SHARD)
                expanded += len(sent.patched.wire) + shards
            except ValidationError as error:
                problems[str(index)] = _naming(item, error.detail)
            if expanded > most:
                raise TooLarge(f"The configs up to number {index} are more than {most} bytes for node agents.")
            if len(problems) == MOST_PROBLEMS:
                break
        if problems:
            raise ValidationError(problems)
        return list(configs.values())

    def _read(self, item: Any, before: dict[str, Sent]) -> Sent:
        assert self.child is not None
        sent: Sent = self.child.run_validation(item)
        if sent.key in before:
            raise ValidationError({"name": ["An earlier config has this name."]})
        return sent


class WrittenConfig(Strict):
    """A config, either as the text of a config file (`yaml`), or by its parts."""

    name = serializers.CharField(
        max_length=253,
        help_text="Yours to choose. A config keeps its history and its node while it keeps its name.",
    )
    check = serializers.RegexField(
        r"^[A-Za-z0-9_.-]+\Z", max_length=253, help_text="The check that runs it, such as http_check."
    )
    yaml = serializers.CharField(
        required=False, trim_whitespace=False, help_text="As in a config file: init_config, instances, logs."
    )
    init_config = serializers.DictField(required=False, allow_null=True)
    instances = serializers.ListField(child=serializers.DictField(), required=False)
    logs = serializers.ListField(child=serializers.DictField(), required=False)

    class Meta:
        list_serializer_class = WrittenConfigs

    def validate_name(self, name: str) -> str:
        try:
            validate_name(name)
        except Unprintable as error:
            raise ValidationError(error.messages) from None
        return name

    def validate(self, values: dict[str, Any]) -> Any:
        parts = {key: values[key] for key in PARTS if key in values}
        if ("yaml" in values) == bool(parts):
            raise ValidationError({"yaml": [f"Either this, or its parts: {', '.join(PARTS)}."]})
        field = "yaml" if "yaml" in values else next(iter(parts))
        try:
            text = values["yaml"] if "yaml" in values else _as_yaml(parts)
            sent = written(values["name"], values["check"], text, self.context["source"])
            if parts:
                # Line numbers would refer to a text that no author wrote.
                sent = replace(sent, linted=sent.linted.in_parts(lint.parts_of(text)), written="")
            _refuse_masked(sent)
        except InvalidYAML as error:
            raise ValidationError({field: [scrub(error.problem if parts else str(error))]}) from None
        except (dispatcher.Refused, UnpatchableConfig) as error:
            raise ValidationError({field: [scrub(str(error))]}) from None
        return sent


class DesiredSet(Strict):
    """All configs that the source shall have. Configs that are left out are removed."""

    revision = serializers.CharField(
        required=False,
        allow_blank=True,
        help_text="The set's revision when it was read. If it has another one now, the answer is 409.",
    )
    configs = WrittenConfig(many=True)


class PutOptions(Options):
    """The query parameters of a call that replaces a set."""

    dry_run = serializers.BooleanField(default=False, help_text="Change nothing, say what would change.")
    accept_removals = serializers.BooleanField(
        default=False,
        help_text="Remove more than half of the configs, if that is ten or more: else the answer is 409.",
    )


def _as_yaml(parts: dict[str, Any]) -> str:
    """The parts as YAML, a line for each key: as JSON, where texts are quoted, so none is taken for a number or boolean."""
    try:
        text = json.dumps(parts, ensure_ascii=False, allow_nan=False, indent=0)
    except ValueError:
        raise InvalidYAML("holds a number that is too large") from None
    except RecursionError:
        raise InvalidYAML(f"nests deeper than {MAX_DEPTH}") from None
    return _ODD_IN_YAML.sub(lambda match: f"\\u{ord(match[0]):04x}", text)


def _refuse_masked(sent: Sent) -> None:
    """Raise InvalidYAML if a text holds the mask: a client that sends back what it read would store it as the password."""
    config = sent.original
    texts = (*config.instances, config.init_config, config.logs, config.metric_config)
    if any(MASK in text for text in texts if text):
        raise InvalidYAML(f"holds {MASK}, which stands for a secret where configs are read: send the secret itself")


def _naming(item: Any, problems: Any) -> Any:
    """The problems of a config, each prefixed with the config's name if it has one."""
    name = item.get("name") if isinstance(item, dict) else None
    if not (isinstance(name, str) and name.isprintable()):
        return problems
    return _prefixed(problems, f"{name[:253]}: ")


def _prefixed(problems: Any, prefix: str) -> Any:
    if isinstance(problems, dict):
        return {key: _prefixed(value, prefix) for key, value in problems.items()}
    if isinstance(problems, list):
        return [_prefixed(value, prefix) for value in problems]
    return ErrorDetail(f"{prefix}{problems}", problems.code)
