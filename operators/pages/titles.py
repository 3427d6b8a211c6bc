"""The words for stories: a title, and the facts."""

from collections.abc import Iterable
from datetime import timedelta
from typing import NamedTuple, Self

from checks.explain.reasons import words
from checks.models import Move
from clusteragent.lib.words import duration, grouped, grouped_count, listed
from nodes.models import NodeEvent
from operators.pages.stories import Story

_MOVE, _EVENT = Move.Reason, NodeEvent.Kind
_GONE = (_EVENT.EXPIRED, _EVENT.LEAVING)
_RETURNED = (_EVENT.RESTARTED, _EVENT.RESTARTING, _EVENT.BACK)


def titled(stories: Iterable[Story]) -> list[tuple[Story, str, str]]:
    """[(story, its title, its facts)] for these stories."""
    return [(story, title(story), facts(story)) for story in stories]


def title(story: Story) -> str:
    """What happened, in a few words."""
    kind, about = story.cause
    by = f" by {about}" if about else ""
    nodes = listed(sorted({event.node for event in story.events}))
    match kind:
        case "nodes":
            return _turnover(story, about)
        case "drain":
            # Each new order replaces the one before.
            orders = [event for event in story.events if event.cause]
            last = max(orders, key=lambda event: event.time).cause if orders else ""
            return f"Drain of {about}{f' by {last}' if last else ''}"
        case "sent":
            return f"Changes of {listed(story.sources) or 'the sources'}{by}"
        case _EVENT.CORDONED | _EVENT.UNCORDONED:
            return f"{nodes} {kind}{by}"
        case _:
            about_nodes = kind.startswith("node ")
            return f"{nodes}: {kind.removeprefix('node ')}" if about_nodes else f"{words(kind).title}{by}"


def facts(story: Story) -> str:
    """How many nodes and configs the story touched: `212 of 300 replaced, 3 540 configs moved once, longest gap 38 s`."""
    gap = f"longest gap {duration(story.gap)}" if story.gap > timedelta(0) else ""
    dangling = len(story.dangling)
    waiting = (
        f"{grouped_count(dangling, 'config')} {'waits' if dangling == 1 else 'wait'} for a node" if dangling else ""
    )
    return ", ".join(filter(None, (_replaced(story), _moved(story), gap, waiting)))


class _Turnover(NamedTuple):
    """The nodes that are gone for good, the new ones, and those that came back."""

    gone: list[str]
    came: list[str]
    returned: list[str]

    @classmethod
    def of(cls, story: Story) -> Self:
        returned = story.nodes(*_RETURNED)
        gone = sorted({*story.nodes(*_GONE)} - {*returned})
        return cls(gone, sorted({*story.nodes(_EVENT.REGISTERED)} - {*gone}), returned)

    @property
    def is_rollout(self) -> bool:
        return bool(self.gone and self.came) or len(self.returned) > 1


def _turnover(story: Story, about: str) -> str:
    nodes = _Turnover.of(story)
    if nodes.is_rollout:
        return f"Rollout of {about}"
    went = "lost" if story.nodes(_EVENT.EXPIRED) else "left"
    for names, verb in ((nodes.gone, went), (nodes.returned, "restarted"), (nodes.came, "joined")):
        if names:
            return f"{listed(names)} {verb}"
    silent = story.nodes(_EVENT.SILENT, _EVENT.FLAPPING)
    return f"{listed(silent)} not heard for a while" if silent else f"Configs of {about} given to others"


def _replaced(story: Story) -> str:
    nodes = _Turnover.of(story)
    if not nodes.is_rollout:
        return ""
    replaced = min(len(nodes.gone), len(nodes.came))
    numbers = (
        (replaced, "replaced"),
        (len(nodes.returned), "restarted"),
        (len(nodes.gone) - replaced, "more gone"),
        (len(nodes.came) - replaced, "more joined"),
    )
    size = f" of {grouped(story.size)}" if story.size else ""
    parts = [(f"{grouped(number)}{'' if 'more' in verb else size}", verb) for number, verb in numbers if number]
    return ", ".join(map(" ".join, parts))


def _moved(story: Story) -> str:
    if story.cause.kind == "sent":
        found = ((story.count(reason), words(reason).outcome) for reason in Move.Reason)
        return ", ".join(f"{grouped_count(number, 'config')} {word}" for number, word in found if number and word)
    if not story.placed:
        taken = len({step.config for step in story.steps if not step.to})
        return f"{grouped_count(taken, 'config')} taken away" if taken and story.cause.kind == _MOVE.PAUSED else ""
    often = max(story.placed.values())
    number = grouped_count(len(story.placed), "config")
    return f"{number} moved once" if often == 1 else f"{number} moved, up to {often} times"
