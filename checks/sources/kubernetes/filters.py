"""Options that exclude Services by their namespace or name, such as DD_CONTAINER_EXCLUDE. Pure."""

import re
from collections.abc import Iterable
from dataclasses import dataclass

NAME, NAMESPACE, IMAGE = "name", "kube_namespace", "image"


class InvalidFilter(ValueError):
    """A filter can't be read. The message names it."""


@dataclass(frozen=True, slots=True)
class Filters:
    """Services that are excluded: they match `exclude`, and not `include`. Each is (NAME or NAMESPACE, pattern)."""

    include: tuple[tuple[str, re.Pattern[str]], ...] = ()
    exclude: tuple[tuple[str, re.Pattern[str]], ...] = ()

    def excludes(self, namespace: str, name: str) -> bool:
        """Return whether a Service is excluded. A pattern matches anywhere in a text."""
        texts = {NAME: name, NAMESPACE: namespace}
        included, excluded = (
            any(pattern.search(texts[kind]) for kind, pattern in filters) for filters in (self.include, self.exclude)
        )
        return excluded and not included


def read(include: Iterable[str], exclude: Iterable[str]) -> Filters:
    """Return the filters of two options, such as `kube_namespace:^dev$`. Raises InvalidFilter.

    Filters by image are left out: a Service has none.
    """
    return Filters(tuple(map(_filter, _of_services(include))), tuple(map(_filter, _of_services(exclude))))


def _of_services(texts: Iterable[str]) -> Iterable[str]:
    return (text for text in texts if text and not text.startswith(f"{IMAGE}:"))


def _filter(text: str) -> tuple[str, re.Pattern[str]]:
    kind, colon, pattern = text.partition(":")
    if not colon or kind not in (NAME, NAMESPACE):
        raise InvalidFilter(f"{text} begins with none of {NAME}:, {NAMESPACE}: and {IMAGE}:")
    try:
        return kind, re.compile(pattern)
    except re.error as error:
        raise InvalidFilter(f"{text} holds no regular expression: {error}") from None
