"""Template filters that format numbers."""

from django import template

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
