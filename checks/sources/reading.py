"""Reading what a source found, and judging what it is: a config to dispatch, one that is passed over, or an error."""

from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Self

from checks import dispatcher
from checks.models import Source
from checks.models.configs import KUBERNETES
from checks.sources import origins
from checks.sources.kubernetes.options import is_watched
from checks.sources.origins import Admitted, Known
from checks.sources.source import (
    BrokenConfig,
    ConfigSource,
    Found,
    Judgement,
    PassedOver,
    Problem,
    Scan,
    Unsettled,
)
from checks.wire.patching import IntegrationConfig, UnpatchableConfig
from checks.wire.scrub import scrub
from clusteragent.lib.words import escape_controls


@dataclass(frozen=True, slots=True)
class Ahead:
    """What a source has, read ahead of the sync that sends it. read: {key: what became of it}, without what is being written."""

    scan: Scan
    read: dict[str, tuple[Judgement, Admitted | None]] = field(default_factory=dict)

    @classmethod
    def of(cls, source: ConfigSource) -> Self:
        """Scan a source, and read what is new to this process or not in the store."""
        ahead = cls(source.scan())
        stored = origins.known(source.name)
        for found in ahead.scan.found:
            known = stored.get(found.key)
            if judged(found, source, known) is None:
                with suppress(Unsettled):
                    ahead.read[found.key] = read(found, source, known)
        return ahead


def judged(found: Found, source: ConfigSource, known: Known | None) -> Judgement | None:
    """What this process knows of the version of a config. None: it is to be read, being new, or lost by the store."""
    judgement = source.memory.get(found.key)
    if judgement is None or judgement.version != found.version:
        return None
    is_lost = judgement.fingerprint and not (known and known.has(judgement, source.replica))
    return None if is_lost else judgement


def _why_template(config: IntegrationConfig) -> str:
    is_for_services = config.advanced_ad_identifiers or any(one.startswith("cel://") for one in config.ad_identifiers)
    if is_for_services and (is_watched() or Source.objects.watched().filter(name=KUBERNETES).exists()):
        return "a template: what it makes is sent by the source kubernetes"
    if is_for_services:
        return "a template for Services of Kubernetes: no cluster is followed"
    return "a template: it has ad_identifiers and no node_name"


def read(found: Found, source: ConfigSource, known: Known | None) -> tuple[Judgement, Admitted | None]:
    """Read a config, and admit it if it is to be dispatched and the store does not have it. Raises Unsettled."""
    try:
        config, linted, text = found.read()
    except BrokenConfig as error:
        problem = Problem(found.where, error.line, scrub(str(error)))
        return Judgement(found.version if error.lasting else None, outcome=problem), None
    judgement = Judgement(found.version, check=config.name, linted=linted)
    try:
        if known and not text and origins.is_sent(known, config, source.replica):
            # A new term finds most of them so, and patching takes twenty times as long.
            dispatcher.require_admissible(config)
            return replace(judgement, fingerprint=known.fingerprint), None
        admitted = origins.admit(source.name, found.key, config, source.replica, text=text)
    except dispatcher.Refused as refusal:
        if config.is_template:
            return replace(judgement, outcome=PassedOver(found.where, _why_template(config))), None
        # Checks of the node agents themselves share the folders.
        is_ours = config.cluster_check or config.is_endpoint
        return replace(judgement, outcome=PassedOver(found.where, str(refusal)) if is_ours else None), None
    except UnpatchableConfig as error:
        # A place may have several configs, and many of the same check.
        what = f"{escape_controls(config.name)}: {error}" if found.place else str(error)
        return replace(judgement, outcome=Problem(found.where, None, scrub(what))), None
    left_out = Problem(found.where, None, scrub(admitted.problem)) if admitted.problem else None
    judgement = replace(judgement, fingerprint=admitted.fingerprint, written_hash=admitted.written_hash)
    return replace(judgement, outcome=left_out, linted=linted.besides(admitted.warning)), admitted
