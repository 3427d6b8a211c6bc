"""The order of names as people read them."""

from typing import Any

from django.db.models import Func, TextField
from django.db.models.expressions import Combinable

from clusteragent.lib.words import MOST_DIGITS


class Natural(Func):
    """A text's place in natural order, to sort and index by: `web-2` comes before `web-10`, and capitals don't matter."""

    # Each run of digits is filled up with zeros and cut to the same length. Only immutable functions, so that it can be indexed.
    template = (
        rf"regexp_replace(regexp_replace(lower(%(expressions)s), '(\d+)', '{'0' * MOST_DIGITS}\1', 'g'),"
        rf" '\d*(\d{{{MOST_DIGITS}}})', '\1', 'g')"
    )
    arity = 1

    def __init__(self, expression: str | Combinable, **extra: Any) -> None:
        """expression: the name of a text column, a path to one, or an expression that is a text."""
        super().__init__(expression, output_field=TextField(), **extra)
