"""Configs that people and pipelines write through the server, without a file: parsing, warnings, and export as text."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from django.core.exceptions import ValidationError
from django.db.models import QuerySet
from yaml import MappingNode, SequenceNode

from checks import dispatcher
from checks.dispatcher.changes import Sent
from checks.models import Config, Origin, originkeys
from checks.sources import fileformat
from checks.wire import sharding, yamlnodes
from checks.wire.lint import Linted, Notice, keys_of, lint, notices
from checks.wire.patching import IntegrationConfig, UnpatchableConfig
from checks.wire.yamlnodes import InvalidYAML

# The source of the configs that are written in the admin.
ADMIN = originkeys.ADMIN
# Texts to begin with, a file a check.
TEMPLATES = Path(__file__).parent / "templates"
# What a config of a check without a template begins with.
BEGINNING = "init_config:\ninstances:\n  - "
# Keys of new configs are compared with those of at most so many checks, so many configs of each.
MOST_CHECKS = 50
MOST_OTHERS = 100


class Remark(NamedTuple):
    """What is wrong with a text (is_error: it can't be saved), or odd. line: counted from 1, or None."""

    line: int | None
    text: str
    is_error: bool


def validate_name(name: str) -> None:
    """Raise ValidationError unless the name is one printable line that no shard can have."""
    if not name.isprintable():
        raise ValidationError("One line of printable characters.")
    if sharding.is_shard(name):
        raise ValidationError("Names that end in # and a number are those of shards.")


def warnings_about(written: Sequence[Sent], others: QuerySet[Config]) -> list[Notice]:
    """Return the warnings about these configs, also from a comparison with some others of the same checks."""
    mine = [(sent.key, sent.original.name, sent.linted) for sent in written]
    checks = sorted({check for _, check, _ in mine})[:MOST_CHECKS]
    theirs = []
    for check in checks:
        newest = others.filter(name=check).order_by("-pk").values_list("original", flat=True)[:MOST_OTHERS]
        instances = (IntegrationConfig.from_json(original).instances for original in newest)
        theirs += [("", check, Linted(keys=tuple(map(keys_of, each)))) for each in instances]
    return [notice for notice in notices([*mine, *theirs]) if notice.where]


def remarks(check: str, yaml: str, others: QuerySet[Config]) -> list[Remark]:
    """Return what is wrong or odd in the text of a config that is being written. check: may be empty while it is not known."""
    try:
        sent = written("new", check, yaml)
    except InvalidYAML as error:
        return [Remark(error.line, error.problem, is_error=True)]
    except (dispatcher.Refused, UnpatchableConfig) as error:
        return [Remark(None, str(error), is_error=True)]
    return [Remark(one.line, one.warning, is_error=False) for one in warnings_about([sent], others)]


def templates() -> list[str]:
    """The checks that have a template."""
    return sorted(file.stem for file in TEMPLATES.glob("*.yaml"))


def template_of(check: str) -> str:
    """Return a text that a config of the check can begin with: its template, else its newest config's keys."""
    if check in templates():
        return (TEMPLATES / f"{check}.yaml").read_text()
    known = Config.objects.filter(name=check).order_by("-pk") if check.isprintable() else Config.objects.none()
    newest = known.values_list("original", flat=True).first()
    instances = IntegrationConfig.from_json(newest).instances if newest else ()
    keys = keys_of(instances[0]).names if instances else ()
    return BEGINNING + "\n    ".join(f"{key}: " for key in keys)


def by_hand(config: Config) -> Origin | None:
    """Return the origin under which a config was written in the admin; None if it was not."""
    return min((origin for origin in config.origins.all() if origin.source == ADMIN), key=lambda o: o.key, default=None)


def written(key: str, check: str, yaml: str, source: str = ADMIN) -> Sent:
    """Return what a config written without a file sends. Raises InvalidYAML, Refused or UnpatchableConfig."""
    parsed = fileformat.parse(yaml, name=check, source=f"{source}:{key}")
    root = yamlnodes.read(yaml)
    if isinstance(root, MappingNode) and yamlnodes.get(root, "cluster_check") is not None and not parsed.cluster_check:
        raise InvalidYAML("cluster_check is off, but configs written here are always dispatched: leave it out")
    config = replace(parsed, provider=source.partition(":")[0], cluster_check=True)
    return Sent(
        source, key, config, dispatcher.admit(config), linted=lint(yaml, check, written_here=True), written=yaml
    )


def text_of(config: IntegrationConfig) -> str:
    """Return the config in the format of config files."""
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
    return yamlnodes.write(yamlnodes.mapping(**{key: part for key, part in parts.items() if part is not None}))
