"""The forms of users and groups, and their words, where Django's speak of what is not here."""

from typing import Any

from django import forms
from django.contrib.auth.models import Group
from django.urls import reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString
from unfold.forms import UserCreationForm
from unfold.widgets import UnfoldAdminTextInputWidget

from operators import bounds
from operators.admin import rights
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


class BoundForm(forms.Form):
    """The fields of a bound. Both empty: none."""

    sources = forms.CharField(
        label="Bound to sources", required=False, help_text=bounds.SOURCES_HELP, widget=UnfoldAdminTextInputWidget(),
    )  # fmt: skip
    checks = forms.CharField(
        label="Bound to checks", required=False, help_text=bounds.CHECKS_HELP, widget=UnfoldAdminTextInputWidget(),
    )  # fmt: skip

    def clean_sources(self) -> list[str]:
        """The patterns. Raises ValidationError for what is none."""
        return bounds.patterns_of_sources(self.cleaned_data["sources"])

    def clean_checks(self) -> list[str]:
        """The patterns. Raises ValidationError for what is none."""
        return bounds.patterns_of_checks(self.cleaned_data["checks"])

    @property
    def bound(self) -> dict[str, list[str]]:
        """What a valid form says of it."""
        return {name: self.cleaned_data[name] for name in ("sources", "checks")}


class GroupForm(BoundForm, forms.ModelForm):  # type: ignore[type-arg]
    """A group, and what its users may touch by what it allows."""

    class Meta:
        model = Group
        fields = ("name", "permissions")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        permissions: Any = self.fields["permissions"]
        permissions.queryset = permissions.queryset.filter(pk__in=rights.offered(self.instance))
        if bound := getattr(self.instance, "bound", None):
            self.initial = {"sources": ", ".join(bound.sources), "checks": ", ".join(bound.checks), **self.initial}


def password_of(user: Any) -> SafeString:
    """Whether a user has a password, and the form for another one."""
    url = reverse("admin:auth_user_password_change", args=[user.pk])
    said, offered = ("Stored as a hash", "Set another one") if user.has_usable_password() else ("None", "Set one")
    return format_html(
        '{}. <a class="underline text-primary-600 dark:text-primary-500" href="{}">{}</a>', said, url, offered
    )
