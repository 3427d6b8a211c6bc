"""What a key of a source sends to the dispatcher: its config whole or in shards, in place of what it sent before."""

import hashlib
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import nullcontext
from dataclasses import replace as replaced
from typing import NamedTuple

from checks import dispatcher
from checks.dispatcher import Refused
from checks.dispatcher.changes import Sent
from checks.models import ClusterStore, Move, Origin
from checks.wire import sharding
from checks.wire.patching import IntegrationConfig, UnpatchableConfig
from clusteragent.lib import conf


class Admitted(NamedTuple):
    """What is to be dispatched for a key. problem: what of it is left out. warning: why it is not cut as it asks."""

    key: str
    sent: tuple[Sent, ...]
    problem: str = ""
    warning: str = ""

    @property
    def fingerprint(self) -> str:
        return fingerprint(self.key, ((one.key, one.patched.fingerprint) for one in self.sent))

    @property
    def written_hash(self) -> str:
        return "".join(one.written_hash for one in self.sent)

    def as_written(self, text: str) -> "Admitted":
        """The same, with the text that it was read from, if there is one."""
        first = replaced(self.sent[0], written=text, written_hash=hash_of(text, self.fingerprint))
        return self._replace(sent=(first, *(replaced(one, written="", written_hash="") for one in self.sent[1:])))


class Known(NamedTuple):
    """What the store has of a key, whole or in shards: the hash of what it sent last, whose scans sent that, the origins,
    and the hash of its author's text.
    """

    fingerprint: str
    replicas: frozenset[str]
    origins: tuple[str, ...]
    written_hash: str = ""


def admit(source: str, key: str, config: IntegrationConfig, replica: str = "", *, text: str = "") -> Admitted:
    """Cut what is to be cut, and patch it. Raises Refused, or UnpatchableConfig when nothing of it could be dispatched.

    text: as its author wrote it.
    """
    if sharding.is_shard(key):
        raise Refused(f"{key}: a name that ends in # and a number is a shard's")
    shards = cut(config)
    sent, broken = [], []
    for number, shard in shards.items():
        try:
            sent.append(Sent(source, sharding.key_of(key, number), shard, dispatcher.admit(shard), replica))
        except UnpatchableConfig as error:
            broken.append(f"#{number}: {error}")
    problems = [_left_out(config)]
    if not sent:
        sent = [Sent(source, key, config, dispatcher.admit(config), replica)]
    elif broken:
        problems.append(f"{len(broken)} of {len(shards)} shards left out; {'; '.join(broken[:3])}")
    told = "; ".join(filter(None, problems))
    return Admitted(key, tuple(sent), told, _not_followed(config)).as_written(text)


def divided(sent: Sent) -> Admitted:
    """What was admitted whole, in shards if the options want that. Raises Refused."""
    if cut(sent.original):
        return admit(sent.source, sent.key, sent.original, sent.replica, text=sent.written)
    found = Admitted(sent.key, (sent,), _left_out(sent.original), _not_followed(sent.original))
    return found.as_written(sent.written)


def cut(config: IntegrationConfig) -> dict[int, IntegrationConfig]:
    """The config's shards by their numbers, as the options want it; none when it is dispatched whole."""
    return sharding.cut(
        config,
        resources=conf.KSM_SHARDING_ENABLED,
        instances=conf.INSTANCE_SHARDING_ENABLED,
        excluded=conf.INSTANCE_SHARDING_EXCLUDE_CHECKS,
    )


def _left_out(config: IntegrationConfig) -> str:
    return sharding.left_out(config) if conf.KSM_SHARDING_ENABLED else ""


def _not_followed(config: IntegrationConfig) -> str:
    """Why the config is not cut as it asks; nothing where the options cut none of its kind."""
    return sharding.not_followed(config) if conf.KSM_SHARDING_ENABLED else ""


def send(
    admitted: Iterable[Admitted],
    before: Mapping[str, Collection[str]],
    *,
    source: str,
    term: int | None = None,
    actor: str = "",
) -> list[Move]:
    """Schedule what keys of a source send. before: under which origins' keys each sent until now; those left are unscheduled.

    A config that is cut otherwise than before is changed in one transaction: nobody sees a part of it missing, or twice.
    Not one with more shards than a chunk of the dispatcher holds: parts of it are missing for a moment.
    """
    plain: list[Sent] = []
    recut: list[tuple[Admitted, set[str]]] = []
    for one in admitted:
        if left := set(before.get(one.key, ())) - {sent.key for sent in one.sent}:
            recut.append((one, left))
        else:
            plain += one.sent
    moves = dispatcher.schedule(plain, term=term, actor=actor)
    for batch in _batches(recut):
        left_over = [(source, key) for _, left in batch for key in left]
        sent = [sent for one, _ in batch for sent in one.sent]
        with dispatcher.single_transaction() if len(left_over) + len(sent) <= dispatcher.CHUNK else nullcontext():
            moves += dispatcher.unschedule(left_over, term=term, actor=actor)
            moves += dispatcher.schedule(sent, term=term, actor=actor)
    return moves


def put(source: str, key: str, config: IntegrationConfig, *, text: str = "", actor: str = "") -> Admitted:
    """Let a key send this, in place of whatever it sent before. Raises Refused or UnpatchableConfig.

    text: as its author wrote it.
    """
    admitted = admit(source, key, config, text=text)
    replace(source, admitted, actor=actor)
    return admitted


def replace(source: str, admitted: Admitted, *, term: int | None = None, actor: str = "") -> list[Move]:
    """Let a key send this, in place of whatever it sent before. Raises NotLeader."""
    with dispatcher.single_transaction():
        # Before looking: else two at once, with different options, could leave a config whole and in shards.
        ClusterStore.objects.lock(term)
        before = {admitted.key: [origin.key for origin in origins(source, admitted.key)]}
        if len(before[admitted.key]) + len(admitted.sent) <= dispatcher.CHUNK:
            return send([admitted], before, source=source, term=term, actor=actor)
    return send([admitted], before, source=source, term=term, actor=actor)


def _batches(recut: Iterable[tuple[Admitted, set[str]]]) -> Iterator[list[tuple[Admitted, set[str]]]]:
    """As many at once as a chunk of the dispatcher holds, one config's shards always together."""
    batch: list[tuple[Admitted, set[str]]] = []
    size = 0
    for one, left in recut:
        if batch and size + len(one.sent) + len(left) > dispatcher.CHUNK:
            yield batch
            batch, size = [], 0
        batch.append((one, left))
        size += len(one.sent) + len(left)
    if batch:
        yield batch


def fingerprint(key: str, sent: Iterable[tuple[str, str]]) -> str:
    """Of all that a key sends, from its origins' keys and fingerprints: the same for a config whole or in other shards never."""
    return " ".join(sorted(f"{each.removeprefix(key)}{one}" for each, one in sent))


def hash_of(text: str, sent_as: str) -> str:
    """Of an author's text, and the fingerprint of what it was sent as; empty when there is no text."""
    return hashlib.blake2b(f"{sent_as}\0{text}".encode(), digest_size=16).hexdigest() if text else ""


def known(source: str) -> dict[str, Known]:
    """What a source sent last, by key: shards under the key that they were cut from."""
    found: dict[str, Known] = {}
    replicas: dict[str, frozenset[str]] = {}
    cut: dict[str, list[tuple[str, str, str, str]]] = {}
    rows = Origin.objects.filter(source=source).values_list("key", "fingerprint", "scanned_by", "written_hash")
    for key, one, replica, written_hash in rows:
        parent = sharding.parent_of(key)
        if parent == key:
            found[key] = Known(one, replicas.setdefault(replica, frozenset({replica})), (key,), written_hash)
        else:
            cut.setdefault(parent, []).append((key, one, replica, written_hash))
    for parent, shards in cut.items():
        keys, _, scanned_by, written_hashes = zip(*shards, strict=True)
        together = fingerprint(parent, (shard[:2] for shard in shards))
        found[parent] = Known(together, frozenset(scanned_by), keys, "".join(written_hashes))
    return found


def origins(source: str, key: str) -> list[Origin]:
    """The origins of what a key sends: its own, or those of its shards."""
    alike = Origin.objects.filter(source=source, key__startswith=key).order_by("pk")
    return [origin for origin in alike if sharding.parent_of(origin.key) == key]


def written(source: str, key: str) -> str:
    """The text of what a key sends, as its author wrote it. Empty when there is none, or none of what is sent now."""
    found = origins(source, key)
    sent_as = fingerprint(key, ((origin.key, origin.fingerprint) for origin in found))
    texts = Origin.objects.filter(pk__in=[origin.pk for origin in found if origin.written_hash])
    for text, stored_hash in texts.values_list("written", "written_hash"):
        if hash_of(text, sent_as) == stored_hash:
            return text
    return ""


def original(source: str, key: str) -> IntegrationConfig:
    """The config that a key sends, whole as it came. Raises LookupError when it sends nothing."""
    ids = [origin.pk for origin in origins(source, key)]
    came = dict(Origin.objects.filter(pk__in=ids).values_list("key", "config__original"))
    if key in came:
        return IntegrationConfig.from_json(came[key])
    shards = {int(each.rpartition("#")[2]): IntegrationConfig.from_json(config) for each, config in came.items()}
    if not shards:
        raise LookupError(f"{source}:{key} sends nothing")
    return sharding.whole(shards)
