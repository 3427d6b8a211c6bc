"""How the pages say numbers and names."""

from collections.abc import Sequence

_NARROW = "\u202f"


def grouped(number: int) -> str:
    """`3 540`, with a narrow space that breaks no line."""
    return f"{number:,}".replace(",", _NARROW)


def counted(number: int, noun: str) -> str:
    """`1 check`, `3 540 checks`."""
    return f"{grouped(number)} {noun}{'' if number == 1 else 's'}"


def listed(words: Sequence[str], most: int = 3) -> str:
    """`ash`, `ash and birch`, `ash, birch, cedar and 4 more`."""
    shown = [*words[:most], f"{grouped(len(words) - most)} more"] if len(words) > most else list(words)
    return " and ".join(filter(None, (", ".join(shown[:-1]), *shown[-1:])))


def percent(part: float) -> str:
    """`42 %`."""
    return f"{part:.0%}".replace("%", f"{_NARROW}%")
