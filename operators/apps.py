"""The app of what people see and do: the admin, its pages, the operators' API."""

from django.apps import AppConfig
from django.contrib import admin
from django.contrib.auth.signals import user_logged_in, user_logged_out


class OperatorsConfig(AppConfig):
    """Adds pruning of tokens and sessions, and the login form that counts failures."""

    name = "operators"

    def ready(self) -> None:
        from django.contrib.sessions.models import Session
        from django.db.models.functions import Now
        from knox.models import AuthToken

        from checks.pruning import KINDS
        from clusteragent.lib.database import bulk
        from operators import login

        KINDS["tokens"] = lambda most: bulk.delete(AuthToken.objects.filter(expiry__lt=Now()).order_by("pk"), most=most)
        KINDS["sessions"] = lambda most: bulk.delete(
            Session.objects.filter(expire_date__lt=Now()).order_by("expire_date"), most=most
        )
        admin.site.login_form = login.LoginForm
        user_logged_in.connect(login.begin)
        user_logged_out.connect(login.end)
