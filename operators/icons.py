"""The templates of apps, with their icons hidden from screen readers."""

import re

from django.template import Origin
from django.template.loaders.app_directories import Loader

# The opening of an element that is an icon. An icon is a word that the font draws as one sign: `delete`.
_ICON = re.compile(r'<\w+(?=\s[^<>]*class="[^"]*\bmaterial-symbols-outlined\b)(?![^<>]*\baria-hidden\b)')


class HiddenIcons(Loader):
    """Loads the templates of apps. Hides their icons from screen readers, which would read the words aloud."""

    def get_contents(self, origin: Origin) -> str:
        return _ICON.sub(r'\g<0> aria-hidden="true"', super().get_contents(origin))
