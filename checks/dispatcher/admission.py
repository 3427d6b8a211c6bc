"""Which configs are dispatched at all, whatever nodes there are."""

from checks.wire import options, patching
from checks.wire.patching import IntegrationConfig, PatchedConfig
from clusteragent.lib import conf


class Refused(ValueError):
    """The config is not dispatched; the message names the rule."""


def admit(config: IntegrationConfig) -> PatchedConfig:
    """Return the config as it is dispatched: patched. Raises Refused (a filter excludes it) or UnpatchableConfig."""
    require_admissible(config)
    return patching.patch(config, options.extra_tags())


def require_admissible(config: IntegrationConfig) -> None:
    """Raise Refused if a filter excludes the config."""
    if config.name in conf.EXCLUDE_CHECKS:
        raise Refused(f"{config.name} is in cluster_checks.exclude_checks")
    if not (config.cluster_check or config.node_name):
        raise Refused(f"{config.name} is not a cluster check")
    if config.metrics_excluded:
        raise Refused(f"{config.name} is excluded from metrics")
    if config.is_template:
        raise Refused(f"{config.name} is a template: it has ad_identifiers and no node_name")
