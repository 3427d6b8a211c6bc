from django.apps import AppConfig
from django.contrib import admin
from django.contrib.auth.signals import user_logged_in


class OperatorsConfig(AppConfig):
    name = "operators"

    def ready(self) -> None:
        from operators import login

        # Not an option of unfold's: the agents' port reads these, and has no operators.
        admin.site.login_form = login.LoginForm
        user_logged_in.connect(login.begin)
