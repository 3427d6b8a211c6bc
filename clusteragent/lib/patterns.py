"""Patterns that people write: of names of nodes and checks, of tags and of sources."""

from fnmatch import fnmatchcase


def fits(text: str, pattern: str) -> bool:
    """Whether a text fits a pattern, in which `*` is any text and `?` any character. All else stands for itself, with case."""
    # To fnmatch a bracket begins a class of characters.
    return fnmatchcase(text, pattern.replace("[", "[[]"))


def overlap(one: str, other: str) -> bool:
    """Whether some text fits both patterns."""
    # Pairs of places up to which both patterns may be read at once; a star stays where it is while the other pattern goes on.
    seen: set[tuple[int, int]] = set()
    todo = [(0, 0)]
    while todo:
        here = i, j = todo.pop()
        if here in seen:
            continue
        seen.add(here)
        a, b = one[i : i + 1], other[j : j + 1]
        if not a and not b:
            return True
        if "*" in (a, b):
            todo += [(i + 1, j)] if a == "*" or (a and b == "*") else []
            todo += [(i, j + 1)] if b == "*" or (b and a == "*") else []
        elif a and b and (a == b or "?" in (a, b)):
            todo.append((i + 1, j + 1))
    return False
