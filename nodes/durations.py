"""Lengths of time, many of them: how long on average, at worst, and where the worst were. In seconds."""

import math
from collections import Counter
from heapq import heappushpop
from typing import Any

EXAMPLES = 10


class Durations:
    """Any number of lengths in little memory, exact to 0.1 ms."""

    def __init__(self) -> None:
        self._tenths: Counter[int] = Counter()

    def add(self, seconds: float) -> None:
        self._tenths[round(seconds * 10_000)] += 1

    def quantile(self, share: float) -> float:
        """The least length that `share` of all do not exceed; 0 when there is none."""
        rank, seen = math.ceil(share * self._tenths.total()), 0
        for tenths, count in sorted(self._tenths.items()):
            seen += count
            if seen >= rank:
                return tenths / 10_000
        return 0

    def report(self) -> dict[str, Any]:
        number = self._tenths.total()
        total = sum(tenths * count for tenths, count in self._tenths.items()) / 10_000
        quantiles = {"p50": self.quantile(0.5), "p99": self.quantile(0.99), "longest": self.quantile(1)}
        return {"number": number, "total": total, "mean": round(total / number, 4) if number else 0} | quantiles


class Spells:
    """Times during which something was so with a check; those that were not disturbed also on their own."""

    def __init__(self) -> None:
        self._all, self._undisturbed = Durations(), Durations()
        self._worst: list[tuple[float, float, str, bool, tuple[str, ...]]] = [(0, 0, "", False, ())] * EXAMPLES

    def add(self, check: str, began: float, ended: float, nodes: tuple[str, ...], *, is_disturbed: bool) -> None:
        seconds = ended - began
        self._all.add(seconds)
        if not is_disturbed:
            self._undisturbed.add(seconds)
        heappushpop(self._worst, (round(seconds, 4), round(began, 3), check, is_disturbed, nodes))

    def report(self) -> dict[str, Any]:
        keys = ("seconds", "began", "check", "is_disturbed", "nodes")
        worst = [dict(zip(keys, spell, strict=True)) for spell in sorted(self._worst, reverse=True) if spell[0]]
        return self._all.report() | {"undisturbed": self._undisturbed.report(), "worst": worst}
