"""The words of the forms of users, where Django's speak of what is not here."""

from typing import Any

from django.urls import reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString
from unfold.forms import UserCreationForm

from operators.admin.access import EVERYTHING

# What stands below the fields of a user's row.
HELP = {
    "username": "At most 150 letters, digits and @ . + - _.",
    "is_active": "Without it, the user can't log in and its tokens can't call, until it is given back.",
    "is_superuser": f"A superuser may do {EVERYTHING}.",
}


class NewUserForm(UserCreationForm):
    """The form of a new user."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        login = self.fields["usable_password"]
        login.label, login.help_text = (
            "Logs in by password",
            "Without a password it can't log in: it is for tokens alone.",
        )
        login.choices = login.widget.choices = [("true", "Yes"), ("false", "No")]
        self.fields["password2"].label, self.fields["password2"].help_text = "Password again", ""


def password_of(user: Any) -> SafeString:
    """Whether a user has a password, and the form for another one."""
    url = reverse("admin:auth_user_password_change", args=[user.pk])
    said, offered = ("Stored as a hash", "Set another one") if user.has_usable_password() else ("None", "Set one")
    return format_html(
        '{}. <a class="underline text-primary-600 dark:text-primary-500" href="{}">{}</a>', said, url, offered
    )
