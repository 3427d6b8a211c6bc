"""Template filters that format numbers and headings."""

from typing import Any

from django import template
from django.db.models import Model
from django.template.defaultfilters import capfirst

from clusteragent.lib import words

register = template.Library()
register.filter("grouped", words.grouped)
register.filter("grouped_count", words.grouped_count)
register.filter("percent", words.percent)


@register.filter
def share(part: float) -> str:
    """The CSS width of a bar, at most its frame: `42.0%`."""
    return f"{min(part, 1):.1%}"


@register.filter
def unlocalized(number: float) -> str:
    """A number without grouping, for drawings and forms."""
    return str(number)


@register.filter
def heading(title: Any) -> str:
    """A part of a page's heading: with a capital, unless it is the name of a row: names are case-sensitive."""
    return str(title) if isinstance(title, Model) else capfirst(title)
