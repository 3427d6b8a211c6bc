"""The language of the filter bar: `tag:env:prod -check:ntp "host: db"`. Pure: no database."""

import re
from collections.abc import Collection, Iterable
from typing import NamedTuple

# The most characters and terms of a query. Each term is a condition of its own, and few suffice.
MOST_CHARACTERS, MOST_TERMS = 500, 10
# A word is of small letters, so `HOST:8080` is text. What begins as a URL does is text, too.
_TERM = re.compile(r"""\s*(?:(-?)([a-z]+):(?!//)(?=\S))?+(?:"((?:[^"\\]|\\.)+)"|([^"\s]\S*))(?=\s|\Z)""", re.DOTALL)
_ESCAPED = re.compile(r"\\(.)", re.DOTALL)


class BadQuery(ValueError):
    """The query can't be understood. The message says why, on one line."""


class Term(NamedTuple):
    """A part of a query. word: the filter's name; empty for text that must be there. is_not: rows with it are left out."""

    word: str
    value: str
    is_not: bool = False


def parse(query: str, words: Collection[str]) -> list[Term]:
    """Return the terms of a query whose filters have these names. Raises BadQuery."""
    if len(query) > MOST_CHARACTERS:
        raise BadQuery(f"a query has at most {MOST_CHARACTERS} characters")
    query, at, terms = query.rstrip(), 0, []
    while at < len(query):
        found = _TERM.match(query, at)
        if not found:
            raise BadQuery(f"a quote has no end, or no blank after it: {query[at:].strip()}")
        at, (sign, word, quoted, plain) = found.end(), found.groups()
        if word and word not in words:
            raise BadQuery(
                f'there is no filter {word}:, there are {_named(words)}. What is text stands in quotes: "{word}:…"'
            )
        if not word and plain and plain.removesuffix(":").removeprefix("-") in words and plain.endswith(":"):
            raise BadQuery(f"{plain} needs a value")
        terms.append(Term(word or "", _ESCAPED.sub(r"\1", quoted) if quoted else plain, sign == "-"))
    if len(terms) > MOST_TERMS:
        raise BadQuery(f"a query has at most {MOST_TERMS} terms")
    return terms


def written(terms: Iterable[Term]) -> str:
    """Return the query that says this."""
    return " ".join(map(_written, terms))


def _written(term: Term) -> str:
    before = f"{'-' * term.is_not}{term.word}:" if term.word else ""
    is_plain = not re.search(r'\s|^"|^//', term.value) and (term.word or ":" not in term.value)
    if is_plain:
        return before + term.value
    escaped = term.value.replace("\\", "\\\\").replace('"', '\\"')
    return f'{before}"{escaped}"'


def _named(words: Iterable[str]) -> str:
    return ", ".join(f"{word}:" for word in words)
