"""What a plan orders, or a question asks, as a command and as calls of the operators' API: for scripts, and for who repeats it
elsewhere.
"""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from datetime import datetime
from types import MappingProxyType
from typing import Any, NamedTuple

from django.http import HttpRequest

from checks.models import Config, Plan
from checks.models.orders import Order, Pin
from checks.wire.scrub import scrub
from clusteragent.lib.words import utc
from operators.admin.base import command, example

# Of more configs or nodes neither is told: nobody types them.
MOST = 5
# What an order says, by the option of its command.
_OPTIONS = {"waits": "--waits", "until": "--until", "by": "--by", "note": "--note"}


class Same(NamedTuple):
    """How an order is given by a command and by a call.

    words: the command's, of the order and the names of its configs or nodes. says: what else of the order both are told.
    call: the name of the URL, empty without one. of_one: whether the call is of one config or node, which its address names;
    is_single: whether the command is of one, too.
    """

    words: Callable[[Mapping[str, Any], Sequence[str]], Sequence[str]]
    says: Sequence[str] = ()
    call: str = ""
    of_one: bool = False
    is_single: bool = False


# {verb of a plan: how the same is ordered elsewhere}
SAME = {
    "pin": Same(
        lambda order, names: ["pin", *names, order["aim"], *_kind(order["kind"])],
        ("kind", "aim", "waits", "until", "note"),
        "pin-list",
    ),
    "pause": Same(lambda _, names: ["pause", *names], ("until", "note"), "pause-list"),
    "resume": Same(lambda _, names: ["resume", *names]),
    "isolate": Same(lambda _, names: ["isolate", *names], ("note",), "isolation-list", is_single=True),
    "reassign": Same(
        lambda order, names: ["reassign", *names, "--to", order["node"]], ("node",), "config-reassign", of_one=True
    ),
    "drain": Same(lambda _, names: ["drain", *names], ("by", "note"), "node-drain", of_one=True),
}


class Call(NamedTuple):
    """A call of the operators' API that acts. name: of its URL. of: what the URL names. body: what is sent."""

    name: str
    of: Sequence[Any] = ()
    body: Mapping[str, Any] = MappingProxyType({})
    method: str = "POST"


class Deed(NamedTuple):
    """An act without a plan. words: of its command, none without one. call: None without one."""

    words: Sequence[str] = ()
    call: Call | None = None

    def told(self, request: HttpRequest) -> list[tuple[str, str]]:
        """What does the same, as (label, text)."""
        commands = [("command that does the same", command(*self.words))] if self.words else []
        if self.call is None:
            return commands
        name, of, body, method = self.call
        call = example(request, f"operators:{name}", *of, body=dict(body), method=method)
        return [*commands, ("call that does the same", call)]


NO_DEED = Deed()
# Commands that take one config alone.
_OF_ONE = {"release"}


def of_nodes(names: Collection[str], call: str, *words: str) -> Deed:
    """What is done to these nodes: by a command of all of them, if there is one, and by a call of one."""
    if not 0 < len(names) <= MOST:
        return NO_DEED
    return Deed([*words, *sorted(names)] if words else (), Call(call, list(names)) if len(names) == 1 else None)


def of_orders(verb: str, model: type[Order], ids: Collection[int]) -> Deed:
    """What takes the orders of this model back from these configs: the command `verb`, and a call of one."""
    orders = list(model.objects.filter(config__in=ids).select_related("config").order_by("pk")[: MOST + 1])
    if not 0 < len(orders) <= MOST:
        return NO_DEED
    is_one = len(orders) == 1
    names = [order.config.unique_name for order in orders if order.config]
    call = Call(f"{model._meta.model_name}-detail", [orders[0].pk], method="DELETE") if is_one else None
    return Deed([verb, *names] if is_one or verb not in _OF_ONE else (), call)


def of_freeze(until: datetime | None, note: str) -> Deed:
    """What freezes balancing so."""
    order = {name: said for name, said in (("until", until and until.isoformat()), ("note", scrub(note))) if said}
    return Deed(["freeze", *_options(order, tuple(order))], Call("freeze-list", body=order))


def of_thaw(freezes: Sequence[int]) -> Deed:
    """What ends the freeze that is in force. freezes: its id, if there is one."""
    return Deed(["thaw"], Call("freeze-detail", freezes, method="DELETE") if freezes else None)


def of_plan(request: HttpRequest, plan: Plan) -> list[tuple[str, str]]:
    """What applies this plan, until it was applied, and what orders the same anew, as (label, text)."""
    apply = [
        ("command that applies it", command("plan", "apply", str(plan.pk))),
        ("call that applies it", example(request, "operators:plan-apply", plan.pk, body={})),
    ]
    return [*([] if plan.applied_at else apply), *_anew(request, plan)]


def _anew(request: HttpRequest, plan: Plan) -> Iterator[tuple[str, str]]:
    """What orders the same once more, decided as things are then."""
    order, same = plan.order, SAME.get(plan.order.get("verb", ""))
    if same is None or order.get("hold"):  # a reassignment that pins is a pin
        return
    of: Sequence[Any] = order["nodes"] if "nodes" in order else _configs_of(plan)
    if not 0 < len(of) <= MOST:
        return
    names = [one if isinstance(one, str) else one.unique_name for one in of]
    if len(of) == 1 or not same.is_single:
        yield "command that orders the same", command(*same.words(order, names), *_options(order, same.says))
    if not same.call or (same.of_one and len(of) > 1):
        return
    ids = [one if isinstance(one, str) else one.pk for one in of]
    said = {name: scrub(value) if name == "note" else value for name in same.says if (value := order.get(name))}
    body, args = (said, ids) if same.of_one else ({"configs": ids} | said, ())
    yield "call that orders the same", example(request, f"operators:{same.call}", *args, body=body)


def _configs_of(plan: Plan) -> list[Config]:
    """The first MOST + 1 of the configs that an order names, as far as they exist."""
    ids = plan.order.get("alone") or [one["config"] for one in (*plan.moves, *plan.staying())]
    rows = Config.objects.filter(pk__in=ids).only("title", "name", "digest", "short_id").order_by("pk")
    return list(rows[: MOST + 1])


def _kind(kind: str) -> list[str]:
    return [] if kind == Pin.Kind.NODE else [f"--{kind}"]


def _options(order: Mapping[str, Any], says: Sequence[str]) -> Iterator[str]:
    """The options of a command for what an order says besides."""
    for name in says:
        value = order.get(name)
        if value and name in _OPTIONS:
            yield _OPTIONS[name]
            if value is not True:
                yield scrub(value) if name == "note" else utc(datetime.fromisoformat(value)).removesuffix(" UTC")
