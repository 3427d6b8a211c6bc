"""What a source orders of its configs, beside what people order: kept in force, under the orders of people."""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from itertools import chain, islice
from typing import Any, NamedTuple

import structlog

from checks import dispatcher
from checks.models import ClusterStore, Origin
from checks.models.orders import Order, Pause, Pin
from checks.models.originkeys import described
from checks.sources.source import Aim, Ordered
from checks.wire.patching import MAX_NAME
from checks.wire.sharding import parent_of

# Orders that one call changes: each is a decision of its own, which takes some 50 ms.
MOST_AT_ONCE = 20

log = structlog.get_logger()

Kind = type[Pin] | type[Pause]
# A pin of a paused config moves nothing, so that a pause comes first.
KINDS: tuple[Kind, ...] = (Pause, Pin)


def enforce(
    source: str, wanted: Mapping[str, Ordered | None], *, under: str, term: int, only_pauses: bool = False
) -> None:
    """Let what the keys of a source order be in force. Raises NotLeader.

    wanted: of all keys that there are, which begin with `under`; None: what it orders can't be read, so it stays. only_pauses:
    pause, and take nothing back, as before a sync that makes paused configs. An order of people stays, and that of the source
    comes when it is over. Of a config that several keys send, of whatever source, only what all of them order is in force.
    Orders of a key that is gone stay until its config is gone, too. A key that sends nothing yet has orders that wait for it.
    A call changes at most MOST_AT_ONCE configs that are dispatched: call it again and again.
    """
    ordering = {key for key, ordered in wanted.items() if ordered and any(ordered)}
    rows = [row for kind in KINDS for row in kind.objects.filter(from_source=True, source=source)]
    if not (ordering or rows):
        return
    senders = _senders(source, under, ordering, rows)
    sending = {key for one in senders.values() for key in one.keys}
    _let_wait(source, wanted, ordering - sending, sending, term)
    kinds: tuple[Kind, ...] = (Pause,) if only_pauses else KINDS
    changes = chain.from_iterable(
        _enforce(kind, source, wanted, senders, term, takes_back=not only_pauses) for kind in kinds
    )
    for _ in islice(changes, MOST_AT_ONCE):
        pass


class _Senders(NamedTuple):
    """Who sends a config: the keys of the source, and whether other keys or sources send it, too."""

    keys: Sequence[str]
    has_others: bool


def _senders(source: str, under: str, keys: Collection[str], rows: Iterable[Order]) -> dict[int, _Senders]:
    """Who sends each config that one of these keys sends, or that has one of these orders: {config's id: senders}."""
    found: dict[int, set[str]] = {row.config_id: set() for row in rows if row.config_id}
    origins = Origin.objects.filter(source=source).beginning_with([under]).values_list("config_id", "key")
    sent = [(pk, parent_of(key)) for pk, key in origins]
    found |= {pk: set() for pk, key in sent if key in keys}
    for pk, key in sent:
        if pk in found:
            found[pk].add(key)
    all_of = Origin.objects.filter(config__in=list(found)).values_list("config_id", "source", "key")
    shared = {pk for pk, its, key in all_of if its != source or parent_of(key) not in found[pk]}
    return {pk: _Senders(sorted(found[pk]), pk in shared) for pk in sorted(found)}


def _let_wait(
    source: str, wanted: Mapping[str, Ordered | None], waiting: Collection[str], sending: Collection[str], term: int
) -> None:
    """Let the orders of keys that send nothing yet wait for their configs, and delete those of keys that are gone or send."""
    for kind in KINDS:
        there: dict[str, list[Any]] = {key: [] for key in waiting}
        for row in kind.objects.in_force().filter(config=None, source=source):
            there.setdefault(parent_of(row.key), []).append(row)
        new: list[Any] = []
        old: list[int] = []
        for key, rows in there.items():
            mine, ordered = [row for row in rows if row.from_source], wanted.get(key)
            if key in wanted and ordered is None and key not in sending:
                continue
            # Orders of people wait, too.
            is_mine = key in waiting and len(mine) == len(rows)
            fields = _ordered(ordered, kind) if ordered and is_mine else None
            if [_fields(row) for row in mine] != ([] if fields is None else [fields]):
                old += [row.pk for row in mine]
                if fields is not None:
                    new.append(kind(source=source, key=key, author=_author(key), from_source=True, **fields))
        if new or old:
            with dispatcher.single_transaction():
                ClusterStore.objects.lock(term)
                kind.objects.filter(pk__in=old, config=None).delete()
                kind.objects.bulk_create(new)


def _enforce(
    kind: Kind,
    source: str,
    wanted: Mapping[str, Ordered | None],
    senders: Mapping[int, _Senders],
    term: int,
    *,
    takes_back: bool,
) -> Iterator[None]:
    """Change the orders of this kind of these configs, and yield after each that changed."""
    rows = {row.config_id: row for row in kind.objects.in_force().filter(config_id__in=senders)}
    for pk, (keys, has_others) in senders.items():
        row: Any = rows.get(pk)
        ordered = [wanted.get(key) for key in keys]
        if (row and not row.from_source) or None in ordered:
            continue
        fields = _common([one and _ordered(one, kind) for one in ordered], has_others=has_others)
        first = keys[0] if keys else parent_of(row.key)
        # One that was inherited from a config that several keys sent may name another's author.
        is_so = row and (parent_of(row.key), row.author, _fields(row)) == (first, _author(first), fields)
        if not is_so and (fields is not None or (row and takes_back)):
            _change(kind, pk, (source, first), fields, term)
            yield


def _common(ordered: Sequence[dict[str, Any] | None], *, has_others: bool) -> dict[str, Any] | None:
    """What all senders of a config order. Nobody stops or moves what somebody else declares, too."""
    first = ordered[0] if ordered and not has_others else None
    return first if all(one == first for one in ordered) else None


def _change(kind: Kind, pk: int, origin: tuple[str, str], fields: Mapping[str, Any] | None, term: int) -> None:
    """Give a config an order of this kind, or take it back if there are no fields."""
    how: dict[str, Any] = {"actor": _author(origin[1]), "term": term}
    try:
        if fields is None and kind is Pin:
            dispatcher.unpin([pk], by_source=True, term=term)
        elif fields is None:
            dispatcher.resume([pk], by_source=True, **how)
        elif kind is Pin:
            dispatcher.pin([pk], origin=origin, **fields, **how)
        else:
            dispatcher.pause([pk], origin=origin, **how)
    except (dispatcher.StalePlan, dispatcher.NotDispatchable) as error:
        # It is tried again with the next call.
        log.info("source_order_not_given", origin=":".join(origin), reason=str(error))


def _ordered(ordered: Ordered, kind: Kind) -> dict[str, Any] | None:
    """The fields of the order of this kind; None when there is none."""
    if kind is Pin:
        return ordered.pin._asdict() if ordered.pin else None
    return {} if ordered.paused else None


def _fields(row: Any) -> dict[str, Any]:
    return {name: getattr(row, name) for name in (Aim._fields if isinstance(row, Pin) else ())}


def _author(key: str) -> str:
    return described(key)[:MAX_NAME]
