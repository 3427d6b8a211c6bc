"""The words for stories: a title, and the facts."""

from collections.abc import Callable, Iterable
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
    return _TITLES.get(kind, _other)(story, about)


def facts(story: Story) -> str:
    """How many nodes and configs the story touched: `212 of 300 replaced, 3 540 configs moved once, longest gap 38 s`."""
    return ", ".join(filter(None, (_replaced(story), _sent(story), _moved(story), _gap(story), _waiting(story))))


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


def _nodes(story: Story, about: str) -> str:
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


def _sent(story: Story) -> str:
    if story.cause.kind != "sent":
        return ""
    found = ((story.count(reason), words(reason).counted) for reason in Move.Reason)
    return ", ".join(f"{grouped_count(number, 'config')} {word}" for number, word in found if number and word)


def _moved(story: Story) -> str:
    if story.cause.kind == "sent" or not story.placed:
        taken = len({step.config for step in story.steps if not step.to})
        return f"{grouped_count(taken, 'config')} taken away" if taken and story.cause.kind == _MOVE.PAUSED else ""
    often = max(story.placed.values())
    number = grouped_count(len(story.placed), "config")
    return f"{number} moved once" if often == 1 else f"{number} moved, up to {often} times"


def _gap(story: Story) -> str:
    return f"longest gap {duration(story.gap)}" if story.gap > timedelta(0) else ""


def _waiting(story: Story) -> str:
    waiting = len(story.dangling)
    return f"{grouped_count(waiting, 'config')} {'waits' if waiting == 1 else 'wait'} for a node" if waiting else ""


def _by(deed: str) -> Callable[[Story, str], str]:
    """The title for what a person or the leader did."""
    return lambda story, about: f"{deed} by {about}" if about else deed


def _cordon(deed: str) -> Callable[[Story, str], str]:
    return lambda story, about: (
        f"{listed(sorted({one.node for one in story.events}))} {deed}{f' by {about}' * bool(about)}"
    )


def _drain(story: Story, about: str) -> str:
    people = sorted({event.cause for event in story.events if event.cause})
    return f"Drain of {about}{f' by {listed(people)}' * bool(people)}"


def _sources(story: Story, about: str) -> str:
    return _by(f"Changes of {listed(story.sources) or 'the sources'}")(story, about)


def _other(story: Story, about: str) -> str:
    kind = story.cause.kind
    if kind.startswith("node "):
        return f"{listed(sorted({one.node for one in story.events}))}: {kind.removeprefix('node ')}"
    return _by(words(kind).title)(story, about)


_TITLES: dict[str, Callable[[Story, str], str]] = {
    "nodes": _nodes,
    "drain": _drain,
    "sent": _sources,
    _EVENT.CORDONED: _cordon("cordoned"),
    _EVENT.UNCORDONED: _cordon("uncordoned"),
}
