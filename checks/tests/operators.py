"""Operators who are logged in to the admin."""

from collections.abc import Collection
from typing import Any

from django.contrib.auth.models import Permission, User
from django.test import Client
from django.urls import reverse

from checks import dispatcher
from checks.models import Config, Plan
from checks.tests.cast import report, sent

CONFIGS = "/admin/checks/config/"


def superuser() -> Client:
    return _logged_in(User.objects.create_superuser("olga"))


def beside_an_idle_node() -> Client:
    """shop, mail and db run on ash, birch is idle."""
    report("ash")
    dispatcher.schedule([sent("shop"), sent("mail"), sent("db", name="postgres")])
    report("birch")
    return superuser()


def operator(*permissions: str, name: str = "otto") -> Client:
    """A user with only this permission, such as `view_config`."""
    user = User.objects.create_user(name, is_staff=True)
    user.user_permissions.set(Permission.objects.filter(codename__in=permissions))
    return _logged_in(user)


def _logged_in(user: User) -> Client:
    client = Client()
    client.force_login(user)
    return client


def config(key: str) -> Config:
    return Config.objects.get(origins__key=key)


def page_of(key: str) -> str:
    return reverse("admin:checks_config_change", args=[config(key).pk])


def listed(client: Client, query: str = "") -> set[str]:
    """The keys of the configs that the list shows."""
    response = client.get(CONFIGS + query)
    assert response.status_code == 200
    return {origin.key for row in response.context["cl"].result_list for origin in row.origins.all()}


def act(client: Client, action: str, keys: Collection[str], **fields: Any) -> str:
    """Run an action on configs, and return the page that the operator sees then."""
    chosen = [config(key).pk for key in keys]
    response = client.post(CONFIGS, {"action": action, "_selected_action": chosen, **fields}, follow=True)
    assert response.status_code == 200
    return response.content.decode()


def refused(client: Client, action: str, keys: Collection[str], **fields: Any) -> None:
    """Ask for an action on configs that the operator may not take: that is refused."""
    chosen = [config(key).pk for key in keys]
    answer = client.post(CONFIGS, {"action": action, "_selected_action": chosen, **fields})
    assert answer.status_code == 403


def planned(client: Client, action: str, keys: Collection[str], **fields: Any) -> Plan:
    """Ask for an order of configs, and return the plan whose page the operator then sees."""
    before = set(Plan.objects.values_list("pk", flat=True))
    page = act(client, action, keys, asked="yes", **fields)
    [plan] = Plan.objects.exclude(pk__in=before)
    assert f"/admin/checks/plan/{plan.pk}/apply/" in page
    return plan


def shown(client: Client, url: str, **fields: Any) -> Plan:
    """Send a form or press a button that makes a plan, and return the plan whose page the operator then sees."""
    before = set(Plan.objects.values_list("pk", flat=True))
    response = client.post(url, opened(client, url) | fields, follow=True)
    assert response.status_code == 200
    made = Plan.objects.exclude(pk__in=before)
    assert made, response.content.decode()
    [plan] = made
    assert f"/admin/checks/plan/{plan.pk}/apply/" in response.content.decode()
    return plan


def apply(client: Client, plan: Plan, typed: str = "") -> str:
    """Apply a plan, and return the page that the operator sees then."""
    response = client.post(reverse("admin:checks_plan_apply", args=[plan.pk]), {"typed": typed}, follow=True)
    assert response.status_code == 200
    return response.content.decode()


def act_confirmed(client: Client, action: str, keys: Collection[str]) -> str:
    """Run an action on configs that shows what it would do first, confirm that, and return the page that follows."""
    return confirmed(client, CONFIGS, action=action, _selected_action=[config(key).pk for key in keys])


def opened(client: Client, url: str) -> dict[str, str]:
    """What the form of a row says besides its fields if it is opened now; nothing of another page."""
    context: Any = client.get(url).context or {} if url.endswith("/change/") else {}
    form = context["adminform"].form if "adminform" in context else None
    return {"opened": form.mark} if hasattr(form, "mark") else {}


def saved(client: Client, url: str, **fields: Any) -> Any:
    """Open the form of a config, send it, confirm what it asks, and return the answer."""
    fields = opened(client, url) | fields
    response: Any = client.post(url, fields)
    if "question" in (response.context or {}):
        response = client.post(url, _answer(response))
    return response


def confirmed(client: Client, url: str, **fields: Any) -> str:
    """Send a form that shows what it would do first, confirm that, and return the page that the operator sees then."""
    response = answered(client, url, **fields)
    assert response.status_code == 200
    return str(response.content.decode())


def answered(client: Client, url: str, **fields: Any) -> Any:
    """Send a form that shows what it would do first, confirm that, and return the answer that the browser ends with.

    A row's form is opened first.
    """
    fields = opened(client, url) | fields
    shown = client.post(url, fields)
    assert shown.status_code == 200, shown
    return client.post(url, _answer(shown), follow=True)


def _answer(shown: Any) -> dict[str, Any]:
    """What a browser sends from the page that asks."""
    sent: dict[str, Any] = {}
    for name, value in shown.context["hidden"]:
        sent.setdefault(name, []).append(value)
    return sent | {"seen": shown.context["seen"], "typed": shown.context["word"]}
