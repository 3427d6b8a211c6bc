"""What a key of a source sends to the dispatcher, a config, whole or in shards, and how it differs from what it sent before."""

import hashlib
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import nullcontext
from dataclasses import replace as replaced
from typing import NamedTuple

from django.db.models import Exists, OuterRef, QuerySet

from acts.models import Act
from acts.recording import record
from checks import dispatcher
from checks.dispatcher import Refused, acting
from checks.dispatcher.changes import Sent
from checks.models import ClusterStore, Config, Move, Origin, Source, bounds
from checks.sources.source import Judgement
from checks.wire import patching, sharding
from checks.wire.patching import IntegrationConfig, PatchedConfig, UnpatchableConfig
from clusteragent.lib import conf
from clusteragent.lib.words import listed

# What an act tells of the texts of configs: of so many, and so many characters of each.
MOST_TEXTS, MOST_OF_TEXT = 20, 10_000


class Admitted(NamedTuple):
    """What is dispatched for a key: one config, or its shards.

    problem: what of it is left out. warning: why it is not cut as it asks.
    """

    key: str
    sent: tuple[Sent, ...]
    problem: str = ""
    warning: str = ""

    @property
    def fingerprint(self) -> str:
        """The fingerprint of all that the key sends."""
        return fingerprint(self.key, ((one.key, one.patched.fingerprint) for one in self.sent))

    @property
    def written_hash(self) -> str:
        """The hash of the author's text; empty without one."""
        return "".join(one.written_hash for one in self.sent)

    def as_written(self, text: str) -> "Admitted":
        """Return a copy with the author's text, which may be empty."""
        first = replaced(self.sent[0], written=text, written_hash=hash_of(text, self.fingerprint))
        return self._replace(sent=(first, *(replaced(one, written="", written_hash="") for one in self.sent[1:])))


class Known(NamedTuple):
    """What the store has of a key, whole or in shards.

    fingerprint: of what it sent last. replicas: those whose scans sent it. origins: their keys. written_hash: hash of the
    author's text.
    """

    fingerprint: str
    replicas: frozenset[str]
    origins: tuple[str, ...]
    written_hash: str = ""

    def has(self, sent: Judgement | Admitted, replica: str) -> bool:
        """Return whether the store has just this, and from this replica."""
        same = self.fingerprint == sent.fingerprint and self.written_hash == sent.written_hash
        return same and self.replicas == {replica}


class Comparison(NamedTuple):
    """The keys of a source, sorted, by how what it sends now differs from what the store has.

    added, changed: with another meaning. same: with the same meaning. resent: those of `same` with another text, or from
    another replica. gone: keys that send nothing any more.
    """

    added: list[str]
    changed: list[str]
    same: list[str]
    resent: list[str]
    gone: list[str]

    def to_send(self, admitted: Iterable[Admitted]) -> list[Admitted]:
        """Return those of the source's configs that the dispatcher must be sent."""
        keys = {*self.added, *self.changed, *self.resent}
        return [one for one in admitted if one.key in keys]


def compare(
    known: Mapping[str, Known],
    sends: Mapping[str, Judgement | Admitted],
    *,
    replica: str = "",
    kept: Collection[str] = (),
) -> Comparison:
    """Return how what a source sends, {key: what it sends}, differs from what is known of it.

    replica: the one that read it, for sources that each replica reads itself. kept: keys that count as sent although they are
    not among `sends`, since the source can't tell now whether they are gone. A part of the keys can be compared alone, if both
    mappings are of this part.
    """
    both = sorted(known.keys() & sends.keys())
    same = [key for key in both if known[key].fingerprint == sends[key].fingerprint]
    return Comparison(
        added=sorted(sends.keys() - known.keys()),
        changed=[key for key in both if known[key].fingerprint != sends[key].fingerprint],
        same=same,
        resent=[key for key in same if not known[key].has(sends[key], replica)],
        gone=sorted(known.keys() - sends.keys() - set(kept)),
    )


def admit(
    source: str,
    key: str,
    config: IntegrationConfig,
    replica: str = "",
    *,
    text: str = "",
    whole: PatchedConfig | None = None,
) -> Admitted:
    """Cut a config as the options say, and patch it. text: the author's text. whole: the config, if it is patched already.

    Raises Refused, or UnpatchableConfig when no part of it can be dispatched.
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
    left_out, warning = sharding.deviations(config) if conf.KSM_SHARDING_ENABLED else ("", "")
    problems = [left_out] if left_out else []
    if not sent:
        sent = [Sent(source, key, config, whole or dispatcher.admit(config), replica)]
    elif broken:
        problems.append(f"{len(broken)} of {len(shards)} shards left out; {'; '.join(broken[:3])}")
    return Admitted(key, tuple(sent), "; ".join(problems), warning).as_written(text)


def is_sent(known: Known, config: IntegrationConfig, replica: str) -> bool:
    """Return whether a key sends just this config as this replica would send it now: whole, and without an author's text."""
    is_same = known.fingerprint == patching.fingerprint(config) and not known.written_hash
    return is_same and known.replicas == {replica} and not (conf.INSTANCE_SHARDING_ENABLED or conf.KSM_SHARDING_ENABLED)


def cut(config: IntegrationConfig) -> dict[int, IntegrationConfig]:
    """Return the config's shards as the options want them, {number: config}; empty when it is dispatched whole."""
    return sharding.cut(
        config,
        resources=conf.KSM_SHARDING_ENABLED,
        instances=conf.INSTANCE_SHARDING_ENABLED,
        excluded=conf.INSTANCE_SHARDING_EXCLUDE_CHECKS,
    )


def send(
    admitted: Iterable[Admitted],
    known: Mapping[str, Known],
    *,
    source: str,
    term: int | None = None,
    actor: str = "",
) -> list[Move]:
    """Schedule what keys of a source send, and unschedule the origins that are left over. Return the moves.

    known: what the store has of these keys. A config that is cut differently than before is changed in one transaction, so no
    part of it is missing or runs twice. This is not so with more shards than fit a chunk of the dispatcher (1 000).
    """
    plain: list[Sent] = []
    recut: list[tuple[Admitted, set[str]]] = []
    for one in admitted:
        before = known[one.key].origins if one.key in known else ()
        if left := set(before) - {sent.key for sent in one.sent}:
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


def remove(
    source: str, keys: Iterable[str], known: Mapping[str, Known], *, term: int | None = None, actor: str = ""
) -> None:
    """Unschedule all that these keys of a source send. Raises NotLeader."""
    dispatcher.unschedule([(source, origin) for key in keys for origin in known[key].origins], term=term, actor=actor)


def put(
    source: str,
    key: str,
    config: IntegrationConfig,
    *,
    text: str = "",
    actor: str = "",
    verify: Callable[[], None] = lambda: None,
) -> Admitted:
    """Admit a config that a person wrote and send it for a key, replacing what the key sent before.

    text: the author's text. verify: raises if that is not to be, with the store locked if it takes one transaction.

    Raises Refused, UnpatchableConfig or Outside.
    """
    admitted = admit(source, key, config, text=text)
    before = [(source, one.key) for one in origins(source, key)]
    bounds.require_source("checks.change_config" if before else "checks.add_config", source, [key])
    after = [(source, one.key) for one in admitted.sent]
    verb, what = Act.Verb.CHANGE if before else Act.Verb.MAKE, f"config {source}:{key}"
    if len(before) + len(after) > dispatcher.CHUNK:
        verify()
        # Before the first of its transactions. What is new has no id yet.
        was = _texts(before)
        texts = [one.patched.text[:MOST_OF_TEXT] for one in admitted.sent[:MOST_TEXTS]]
        record(verb, what, before=list(was.values()) or None, after=texts, configs=was, nodes=acting.nodes_of(was))
        replace(source, admitted, actor=actor)
        return admitted
    with dispatcher.single_transaction():
        ClusterStore.objects.lock()
        verify()
        was, hashes = _texts(before), _digests(before)
        nodes = acting.nodes_of(was)
        replace(source, admitted, actor=actor)
        now = _texts(after)
        configs, nodes = {*was, *now}, {*nodes, *acting.nodes_of(now)}
        if list(was.values()) == list(now.values()):
            what += ": only how it is written" if hashes == _digests(after) else ": what changed is hidden"
        record(verb, what, before=list(was.values()) or None, after=list(now.values()), configs=configs, nodes=nodes)
    return admitted


def _digests(keys: Collection[tuple[str, str]]) -> list[str]:
    """The digests of the configs of these (source, key) pairs, which differ where their secrets do."""
    return sorted(Origin.objects.keyed(keys).values_list("config__digest", flat=True))


def replace(source: str, admitted: Admitted, *, term: int | None = None, actor: str = "") -> list[Move]:
    """Send an admitted config for its key, replacing what the key sent before. Return the moves. Raises NotLeader."""
    with dispatcher.single_transaction():
        # Before reading: else two replicas with different options could leave a config both whole and in shards.
        ClusterStore.objects.lock(term)
        before = {key: one for key, one in known(source, [admitted.key]).items() if key == admitted.key}
        if sum(len(one.origins) for one in before.values()) + len(admitted.sent) <= dispatcher.CHUNK:
            return send([admitted], before, source=source, term=term, actor=actor)
    return send([admitted], before, source=source, term=term, actor=actor)


def take_back(keys: Collection[tuple[str, str]], *, actor: str) -> None:
    """Remove what a person wrote under these origins, (source, key) pairs. More than CHUNK are not atomic. Raises Outside."""
    for source, key in keys:
        bounds.require_source("checks.delete_config", source, [key])
    with dispatcher.single_transaction() if len(keys) <= dispatcher.CHUNK else nullcontext():
        texts = _texts(keys)
        names = listed([f"{source}:{key}" for source, key in sorted(keys)])
        nodes = acting.nodes_of(texts)
        record(Act.Verb.DELETE, f"config {names}", before=list(texts.values()), configs=texts, nodes=nodes)
        dispatcher.unschedule(keys, actor=actor)


def _texts(keys: Collection[tuple[str, str]]) -> dict[int, str]:
    """Return {config's id: the beginning of what it says, as people see it} for the configs of these (source, key) pairs."""
    ids = Origin.objects.keyed(keys).values("config")
    found = Config.objects.filter(pk__in=ids).only("text", "patched_with").order_by("pk")[:MOST_TEXTS]
    return {config.pk: config.display_text[:MOST_OF_TEXT] for config in found}


def _batches(recut: Iterable[tuple[Admitted, set[str]]]) -> Iterator[list[tuple[Admitted, set[str]]]]:
    """Batches that fit a chunk of the dispatcher. The shards of a config are always in one batch."""
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
    """Return the fingerprint of all that a key sends, from the (key, fingerprint) of its origins.

    It differs between a whole config and its shards, and between different shards.
    """
    return " ".join(sorted(f"{each.removeprefix(key)}{one}" for each, one in sent))


def hash_of(text: str, sent_as: str) -> str:
    """Return the hash of an author's text and of the fingerprint that it was sent as; empty without a text."""
    return hashlib.blake2b(f"{sent_as}\0{text}".encode(), digest_size=16).hexdigest() if text else ""


def known(source: str, beginnings: Collection[str] | None = None) -> dict[str, Known]:
    """Return what a source sent last: {key: Known}. Shards are under the key that they were cut from.

    beginnings: only keys that begin with one of these; what does not end in a slash is a whole key.
    """
    found: dict[str, Known] = {}
    replicas: dict[str, frozenset[str]] = {}
    cut: dict[str, list[tuple[str, str, str, str]]] = {}
    rows = Origin.objects.filter(source=source)
    if beginnings is not None:
        rows = rows.beginning_with(beginnings)
    for key, one, replica, written_hash in rows.values_list("key", "fingerprint", "scanned_by", "written_hash"):
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


def held(source: Source) -> QuerySet[Origin]:
    """Return the origins that a source does not send any more, and whose removal it holds back."""
    sent = known(source.name)
    keys = [origin for key in source.held_removals if key in sent for origin in sent[key].origins]
    return Origin.objects.filter(source=source.name, key__in=keys)


def stopped_without(gone: QuerySet[Origin]) -> list[tuple[int, str, str]]:
    """Return what would stop if these were removed: (config's id, check, node's name), by id. What others send stays."""
    others = Origin.objects.filter(config=OuterRef("pk")).exclude(pk__in=gone.values("pk"))
    found = Config.objects.filter(pk__in=gone.values("config")).exclude(Exists(others)).order_by("pk")
    return list(found.filter(assignment__isnull=False).values_list("pk", "name", "assignment__node__name"))


def origins(source: str, key: str) -> list[Origin]:
    """Return the origins of a key: its own, or those of its shards."""
    alike = Origin.objects.filter(source=source, key__startswith=key).order_by("pk")
    return [origin for origin in alike if sharding.parent_of(origin.key) == key]


def written(source: str, key: str) -> str:
    """Return the author's text of what a key sends now; empty when there is none."""
    found = origins(source, key)
    sent_as = fingerprint(key, ((origin.key, origin.fingerprint) for origin in found))
    texts = Origin.objects.filter(pk__in=[origin.pk for origin in found if origin.written_hash])
    for text, stored_hash in texts.values_list("written", "written_hash"):
        if hash_of(text, sent_as) == stored_hash:
            return text
    return ""


def original(source: str, key: str) -> IntegrationConfig:
    """Return the config that a key sends, whole and not patched. Raises LookupError when it sends nothing."""
    ids = [origin.pk for origin in origins(source, key)]
    came = dict(Origin.objects.filter(pk__in=ids).values_list("key", "config__original"))
    if key in came:
        return IntegrationConfig.from_json(came[key])
    shards = {int(each.rpartition("#")[2]): IntegrationConfig.from_json(config) for each, config in came.items()}
    if not shards:
        raise LookupError(f"{source}:{key} sends nothing")
    return sharding.whole(shards)
