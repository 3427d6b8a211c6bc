"""Roles: what operators may do. A role is a Django group, so admin and API check the same permissions."""

from collections.abc import Collection, Iterable, Mapping
from typing import Any

from django.apps import apps as django_apps
from django.contrib.auth.models import Group, Permission
from django.db import models


class Role(models.TextChoices):
    """The groups that a migration creates. Each may see everything that viewers see; a user may have several."""

    VIEWER = "viewer"
    OPERATOR = "operator"
    AUTHOR = "author"
    ADMIN = "admin"


# What each may do, as people are told where roles are given.
MEANINGS = {
    Role.VIEWER: "sees everything but secrets and the record of acts; changes nothing",
    Role.OPERATOR: "sees what a viewer sees, and the record of acts; moves, pins, pauses, isolates and drains, writes rules,"
    " freezes balancing and accepts removals",
    Role.AUTHOR: "sees what a viewer sees; writes and removes configs, which node agents run, but does not steer them",
    Role.ADMIN: "sees what a viewer sees, and the record of acts; gives roles, users, passwords and tokens, also to itself;"
    " does not steer or write by itself",
}


def grant(apps: Any, granted: Mapping[str, Iterable[str]]) -> None:
    """Give roles permissions, as {"viewer": ["nodes.view_node"]}. For migrations: `apps` has the models of their time.

    Missing groups and permissions are created, since Django creates permissions only after all migrations.
    """
    groups = apps.get_model("auth", "Group").objects
    for role, names in granted.items():
        group, _ = groups.get_or_create(name=role)
        group.permissions.add(*(_permission(apps, name) for name in names))


def with_permission(name: str) -> list[str]:
    """The names of the groups that have this permission, sorted."""
    return with_permissions([name])[name]


def with_permissions(names: Iterable[str]) -> dict[str, list[str]]:
    """The names of the groups that have each of these permissions, sorted."""
    found: dict[str, list[str]] = {name: [] for name in names}
    codenames = {name.partition(".")[2] for name in found}
    rows = Permission.objects.filter(codename__in=codenames, group__isnull=False).order_by("group__name")
    for app, codename, group in rows.values_list("content_type__app_label", "codename", "group__name"):
        if (name := f"{app}.{codename}") in found:
            found[name].append(group)
    return found


def why_not(user: Any, permission: str) -> str:
    """Why the user's roles do not allow what this permission does; empty if they do, or no group has it."""
    if user.has_perm(permission) or not (having := with_permission(permission)):
        return ""
    return f"this {comes_with(having)}"


def comes_with(groups: Collection[str]) -> str:
    """By which of these groups something is given, in words; groups that admins made are named where no role is among them."""
    named = [role for role in Role.values if role in groups] or sorted(groups)
    return f"comes with the role {' or '.join(named)}" if named else "comes with no role"


def unknown_groups(names: Iterable[str]) -> list[str]:
    """Those of these names that are neither roles nor groups that admins made, sorted."""
    wanted = set(names)
    return sorted(wanted - set(Group.objects.filter(name__in=wanted).values_list("name", flat=True)))


def in_words(name: str) -> str:
    """What this permission allows: `view users`."""
    app, _, codename = name.partition(".")
    for model in django_apps.get_app_config(app).get_models():
        titles = {code: title.removeprefix("Can ") for code, title in model._meta.permissions}
        names = model._meta
        titles |= {
            f"{verb}_{names.model_name}": f"{verb} {names.verbose_name_plural}" for verb in names.default_permissions
        }
        if codename in titles:
            return str(titles[codename])
    return name


def _permission(apps: Any, name: str) -> Any:
    app, _, codename = name.partition(".")
    # {codename: (model, title)} of the permissions that models declare themselves.
    declared = {
        code: (model._meta.model_name, title)
        for model in apps.get_app_config(app).get_models()
        for code, title in model._meta.permissions
    }
    action, _, model = codename.partition("_")
    if codename in declared:
        model, title = declared[codename]
    else:
        title = f"Can {action} {apps.get_model(app, model)._meta.verbose_name}"
    kind, _ = apps.get_model("contenttypes", "ContentType").objects.get_or_create(app_label=app, model=model)
    permission, _ = apps.get_model("auth", "Permission").objects.get_or_create(
        content_type=kind, codename=codename, defaults={"name": title}
    )
    return permission


def sees_digests(user: Any) -> bool:
    """Whether the user may see digests and the check IDs of node agents, and search by them."""
    return bool(user.has_perm("checks.view_digests"))
