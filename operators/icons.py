"""The templates of apps, with their icons hidden from screen readers and all of their controls within the keyboard's reach."""

import re

from django.template import Origin
from django.template.loaders.app_directories import Loader

# The opening of an element that is an icon. An icon is a word that the font draws as one sign: `delete`.
_ICON = re.compile(r'<\w+(?=\s[^<>]*class="[^"]*\bmaterial-symbols-outlined\b)(?![^<>]*\baria-hidden\b)')
# The opening of an element that a click does something with, though it is neither a link nor a button. Of the site's name a click
# does something only where there are several sites, and beside the filters it closes them, as Escape does.
_CONTROL = re.compile(
    r'<(?:a|div)(?=\s[^<>]*\sx-on:click="(?P<does>\w+))'
    r'(?![^<>]*\s(?:href|tabindex|site_dropdown|id="changelist-filter-close"))'
)
# Those that show no words.
_NAMES = {"openRelatedWidgetWrapper": "More about this field", "openTheme": "Light or dark"}


class ReachableTemplates(Loader):
    """Loads the templates of apps. Hides their icons from screen readers, which would read the words aloud, and makes what only
    a mouse could press a button for the keyboard, which `reach.js` presses.
    """

    def get_contents(self, origin: Origin) -> str:
        return _CONTROL.sub(_as_button, _ICON.sub(r'\g<0> aria-hidden="true"', super().get_contents(origin)))


def _as_button(found: re.Match[str]) -> str:
    name = _NAMES.get(found["does"])
    return f'{found[0]} role="button" tabindex="0"' + (f' aria-label="{name}"' if name else "")
