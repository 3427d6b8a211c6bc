"""Users and groups in the admin. Who gains and who loses what is shown before it is saved."""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any
from urllib.parse import urlencode

from django.apps import apps
from django.contrib import admin, messages
from django.contrib.auth.admin import GroupAdmin, UserAdmin
from django.contrib.auth.hashers import UNUSABLE_PASSWORD_PREFIX
from django.contrib.auth.models import Group, User
from django.contrib.postgres.aggregates import StringAgg
from django.db import transaction
from django.db.models import Case, Model, OuterRef, Subquery, TextField, Value, When
from django.db.models.functions import Now
from django.http import HttpRequest, HttpResponse
from django.urls import reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString
from knox.models import AuthToken
from unfold.decorators import display
from unfold.forms import AdminPasswordChangeForm, UserChangeForm
from unfold.widgets import UnfoldAdminCheckboxSelectMultipleWidget

from acts.models import Act
from acts.recording import record
from clusteragent.lib.words import listed, plain_count
from operators import bounds, identities
from operators.admin import access, losses, rights
from operators.admin.base import (
    DeclaredAdmin,
    Table,
    anchor,
    dated,
    list_url,
    row_url,
    time_column,
)
from operators.admin.questions import Question, ShownDeletions, seen_of, unseal
from operators.admin.rights import Given
from operators.admin.userforms import HELP, GroupForm, NewUserForm, password_of
from operators.models import SavedView
from operators.roles import MEANINGS, Role

# Remove what libraries registered. A Schedule of django-q2 would run any function that its author names.
admin.site.unregister([User, Group, AuthToken])
admin.site.unregister(
    [model for model in apps.get_app_config("django_q").get_models() if admin.site.is_registered(model)]
)


def by_roles(user: str = "") -> Case:
    """Expression: the roles of a user, as `access.roles_of` tells them. user: the path to the user, as `user__`."""
    of_user = Group.objects.filter(user=OuterRef(f"{user}pk")).order_by().values("user")
    named = of_user.annotate(names=StringAgg("name", ", ", order_by="name")).values("names")
    everything = When(**{f"{user}is_superuser": True}, then=Value("everything"))
    return Case(everything, default=Subquery(named), output_field=TextField())


# What lets a user in, as `identities.told` begins.
_LOGS_IN_BY = Case(
    When(broken_glass__isnull=False, then=Value("an emergency's password")),
    When(identity__isnull=False, then="identity__issuer"),
    When(password__startswith=UNUSABLE_PASSWORD_PREFIX, then=Value("tokens alone")),
    default=Value("password"),
    output_field=TextField(),
)


class RecordedAdmin(ShownDeletions, DeclaredAdmin):
    """Rows that forms change: each change is on record, in its transaction, with all that the row was and is.

    A deletion shows what goes with the rows first, and a form who gains and loses what.
    """

    def asked(self, request: HttpRequest, form: Any) -> Question | None:
        """What saving a valid form does to what people may do; None if that is nothing."""
        raise NotImplementedError

    def changeform_view(
        self, request: HttpRequest, object_id: str | None = None, form_url: str = "", extra_context: Any = None
    ) -> HttpResponse:
        """Show what a valid form does to what people may do until that is confirmed, then save it."""
        unseal(request)
        if (form := self.sent_form(request, object_id)) and (question := self.asked(request, form)):
            back = row_url(form.instance) if form.instance.pk else list_url(self.model)
            if page := question.unanswered(request, back, form.instance):
                return page
        response: HttpResponse = super().changeform_view(request, object_id, form_url, extra_context)
        return response

    def lost_with(self, obj: Any) -> str:
        """What a row's deletion does, in a sentence."""
        raise NotImplementedError

    def gone_with(self, rows: Sequence[Any]) -> tuple[dict[str, Any], Sequence[Table]]:
        """What is deleted or lost with rows: as JSON data, for the record, and as tables."""
        return {}, ()

    def question(self, rows: Sequence[Any]) -> Question:
        sentences = [f"{self.lost_with(obj)} What was done stays on record." for obj in rows]
        gone, tables = self.gone_with(rows)
        told = [self.told(obj) for obj in rows]
        whom = listed([named(obj) for obj in rows])
        seen = seen_of([*sentences, json.dumps([told, gone], sort_keys=True, default=str)])
        return Question(f"Delete {whom}", sentences, tables=tables, seen=seen, button="Delete")

    def told(self, obj: Any) -> dict[str, Any]:
        """What a row says, as JSON data. What is secret, of all of it nothing but that it is there."""
        raise NotImplementedError

    def granted(
        self, obj: Any, before: Mapping[str, Any], now: Mapping[str, Any], *, is_done: bool = False
    ) -> Iterator[str]:
        """What people may do now, or no more, once the row is saved, one sentence each.

        before, now: see `told`. is_done: whether it is saved already.
        """
        return iter(())

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        # Before anything is saved: what belongs to the row is saved after it.
        obj.told_before = self.told(self.model._default_manager.get(pk=obj.pk)) if change else None
        super().save_model(request, obj, form, change)

    def save_related(self, request: HttpRequest, form: Any, formsets: Any, change: bool) -> None:
        super().save_related(request, form, formsets, change)
        obj = form.instance
        verb = Act.Verb.CHANGE if change else Act.Verb.MAKE
        # Read again: what was read before may be cached.
        now = self.told(self.model._default_manager.get(pk=obj.pk))
        record(verb, named(obj), before=obj.told_before, after=now)
        for told in self.granted(obj, obj.told_before or {}, now, is_done=True):
            messages.info(request, told)

    def delete_model(self, request: HttpRequest, obj: Any) -> None:
        self.delete_queryset(request, self.model._default_manager.filter(pk=obj.pk))

    @transaction.atomic
    def delete_queryset(self, request: HttpRequest, queryset: Any) -> None:
        # One after the other: what two groups give both is lost with the second one.
        for obj in queryset:
            gone, _ = self.gone_with([obj])
            record(Act.Verb.DELETE, named(obj), before=self.told(obj) | gone)
            obj.delete()


def named(row: Model) -> str:
    """A row in words: `user otto`."""
    return str(row) if isinstance(row, AuthToken) else f"{row._meta.verbose_name} {row}"


@admin.register(User)
class OperatorAdmin(UserAdmin, RecordedAdmin):  # type: ignore[misc, type-arg]
    """The users."""

    form = UserChangeForm
    add_form = NewUserForm
    # Django's says that there is more to do afterwards.
    add_form_template = None
    change_password_form = AdminPasswordChangeForm
    # What one may do comes from roles alone.
    fieldsets = (
        (None, {"fields": ("username", "shown_password", "groups", "is_active", "is_superuser")}),
        ("About", {"fields": ("logs_in_by", "tokens", "first_name", "last_name", "email", "was_here", "joined")}),
    )
    list_display = ("username", "roles", "logs_in_by", "is_active", "logged_in")
    list_filter = ("groups", "is_active")
    # Name, role and password in one form: nothing is left to be done for a colleague.
    add_fieldsets = ((None, {"fields": ("username", "groups", "usable_password", "password1", "password2")}),)

    readonly_fields = ("shown_password", "logs_in_by", "tokens", "was_here", "joined")
    filter_horizontal = ("user_permissions",)
    logged_in, was_here = time_column("last_login"), time_column("last_login", dated)
    joined = time_column("date_joined", dated)

    def get_queryset(self, request: HttpRequest) -> Any:
        rows = super().get_queryset(request).select_related("identity", "broken_glass").prefetch_related("groups")
        return rows.annotate(now=Now())

    def get_fieldsets(self, request: HttpRequest, obj: Any = None) -> Any:
        """The fields. Tokens are for who may make them."""
        found = super().get_fieldsets(request, obj)
        unseen = set() if request.user.has_perm("knox.add_authtoken") else {"tokens"}
        return [
            (title, {**shown, "fields": [one for one in shown["fields"] if one not in unseen]})
            for title, shown in found
        ]

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        fields = super().get_readonly_fields(request, obj)
        # The provider decides what its people may do, and says it again with each login.
        return (*fields, "groups", "is_superuser", "username") if obj and identities.of(obj) else fields

    @display(ordering=by_roles())
    def roles(self, user: Any) -> str:
        """The groups of the user."""
        return access.roles_of(user)

    @display(ordering=_LOGS_IN_BY)
    def logs_in_by(self, user: Any) -> str:
        """What lets the user in, and what the provider said last."""
        return identities.told(user, user.now)

    @display(description="password")
    def shown_password(self, user: Any) -> SafeString:
        """Whether there is one, and the form for another."""
        return password_of(user)

    @display
    def tokens(self, user: Any) -> SafeString:
        """The user's tokens, and the form for another one."""
        number = plain_count(AuthToken.objects.filter(user=user).count(), "token")
        add = f"{reverse('admin:knox_authtoken_add')}?{urlencode({'user': user.pk})}"
        return format_html("{}, {}", anchor(list_url(AuthToken, q=user.username), number), anchor(add, "Add a token"))

    def formfield_for_dbfield(self, db_field: Any, request: HttpRequest, **kwargs: Any) -> Any:
        if db_field.name in HELP:
            kwargs["help_text"] = HELP[db_field.name]
        return super().formfield_for_dbfield(db_field, request, **kwargs)

    def formfield_for_manytomany(self, db_field: Any, request: HttpRequest, **kwargs: Any) -> Any:
        if db_field.name == "groups":
            # They are few: a box to tick for each, with one click.
            kwargs["widget"] = UnfoldAdminCheckboxSelectMultipleWidget()
        field = super().formfield_for_manytomany(db_field, request, **kwargs)
        if field is not None and db_field.name == "groups":
            field.help_text = " ".join(f"{role.capitalize()}: {MEANINGS[role]}." for role in Role)
        return field

    def told(self, obj: User) -> dict[str, Any]:
        return _told(obj) | {
            "groups": sorted(obj.groups.values_list("name", flat=True)),
            "permissions": rights.codes(obj.user_permissions),
        }

    def asked(self, request: HttpRequest, form: Any) -> Question | None:
        user = form.instance
        before = self.told(User.objects.get(pk=user.pk)) if user.pk else {}
        # The provider's people have no such field.
        groups = form.cleaned_data.get("groups")
        roles = before.get("groups", []) if groups is None else sorted(group.name for group in groups)
        now = _told(user) | {"groups": roles}
        worse = [one] if (one := access.made_superuser(before, now)) else []
        sentences = [one for one in self.granted(user, before, now) if one not in worse]
        if not (sentences or worse):
            return None
        if user == request.user:
            worse.append("This is your own user: what you lose, another admin must give you again.")
        given = rights.given_by(Group.objects.filter(name__in=roles)).values()
        had, has = rights.of_stored(user), rights.of(user, given)
        return Question(
            f"Save {named(user)}",
            sentences,
            worse,
            rights.table(f"What user {user} may do", had, has),
            seen=seen_of([*sentences, *worse, *rights.facts(had, has)]),
            button="Save",
            is_dangerous=bool(worse),
        )

    def granted(
        self, obj: Any, before: Mapping[str, Any], now: Mapping[str, Any], *, is_done: bool = False
    ) -> Iterator[str]:
        return access.of_user(before, now, is_done=is_done)

    def lost_with(self, obj: User) -> str:
        tokens = plain_count(AuthToken.objects.filter(user=obj).count(), "token")
        shared = SavedView.objects.filter(owner=obj, is_shared=True).count()
        views = f" {plain_count(shared, 'view')} that others see, too, is deleted with it." if shared else ""
        return f"User {obj} is logged out and can't log in any more, and {tokens} of it can't call any more.{views}"

    def gone_with(self, rows: Sequence[Any]) -> tuple[dict[str, Any], Sequence[Table]]:
        gone = losses.with_users(rows)
        return gone, losses.table_of_users(rows, gone)

    def user_change_password(self, request: HttpRequest, id: str, form_url: str = "") -> HttpResponse:  # noqa: A002
        with transaction.atomic():
            before = self.get_object(request, id)
            response = super().user_change_password(request, id, form_url)
            user = self.get_object(request, id)
            if before and user and user.password != before.password:
                after = "by password, a new one" if user.has_usable_password() else "not by password"
                record(Act.Verb.CHANGE, f"login of user {user}", after=after)
        return response


@admin.register(Group)
class OperatorGroupAdmin(GroupAdmin, RecordedAdmin):
    """The groups: the roles, and others that admins make. What a bound group allows, its users may do within the bound alone."""

    form = GroupForm
    fields = ("name", "permissions", "sources", "checks")
    list_display = ("name", "bound")
    list_select_related = ("bound",)

    @display(description="bound to", ordering="bound__sources")
    def bound(self, group: Group) -> str:
        """Sources and checks."""
        return bounds.in_words(group)

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        # Commands and options name the roles.
        return ("name",) if obj and obj.name in Role else ()

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Whether the user may delete groups, or this one, which is no role."""
        return super().has_delete_permission(request, obj) and not (obj and obj.name in Role)

    def save_related(self, request: HttpRequest, form: Any, formsets: Any, change: bool) -> None:
        bounds.bind(**form.bound, group=form.instance)
        super().save_related(request, form, formsets, change)

    def lost_with(self, obj: Group) -> str:
        """Who loses what it allows."""
        users = plain_count(obj.user_set.count(), "user")
        return f"{users} in group {obj} can't do any more what only it allows."

    def granted(
        self, obj: Any, before: Mapping[str, Any], now: Mapping[str, Any], *, is_done: bool = False
    ) -> Iterator[str]:
        return access.of_group(obj.user_set.count(), before, now, is_done=is_done)

    def asked(self, request: HttpRequest, form: Any) -> Question | None:
        group = form.instance
        users = access.members(group) if group.pk else []
        if not users:
            return None
        before = self.told(Group.objects.get(pk=group.pk))
        bound = {"bound": form.bound} if any(form.bound.values()) else {}
        now = before | {"name": group.name, "permissions": rights.codes(form.cleaned_data["permissions"])}
        now = {name: value for name, value in now.items() if name != "bound"} | bound
        sentences = list(self.granted(group, before, now))
        if not sentences:
            return None
        then = Given(now["permissions"], bounds.worded(**form.bound))
        changes = losses.changed(users, lambda given: {**given, group.pk: then})
        return Question(
            f"Save {named(group)}",
            sentences,
            tables=losses.table_of_members("Users in it", changes),
            seen=seen_of([*sentences, *losses.facts(changes)]),
            button="Save",
        )

    def gone_with(self, rows: Sequence[Any]) -> tuple[dict[str, Any], Sequence[Table]]:
        changes = losses.of_groups(rows)
        return losses.told(changes), losses.table_of_members("Who loses what", changes)

    def told(self, obj: Group) -> dict[str, Any]:
        users = list(obj.user_set.order_by("username").values_list("username", flat=True))
        return {"name": obj.name, "permissions": rights.codes(obj.permissions), "users": users} | bounds.told(obj)


def _told(user: User) -> dict[str, Any]:
    """What a user's own row says, as JSON data, without what is secret."""
    names = ("username", "first_name", "last_name", "email", "is_active", "is_staff", "is_superuser")
    return {name: getattr(user, name) for name in names}


def may_add_users(request: HttpRequest) -> bool:
    """Whether who calls may add users, with roles."""
    return bool(admin.site.get_model_admin(User).has_add_permission(request))
