from django.apps import AppConfig


class OperatorsConfig(AppConfig):
    name = "operators"

    def ready(self) -> None:
        from django.db.models.functions import Now
        from knox.models import AuthToken

        from checks.pruning import KINDS
        from clusteragent.lib.database import batches

        KINDS["tokens"] = lambda most: batches.delete(
            AuthToken.objects.filter(expiry__lt=Now()).order_by("pk"), most=most
        )
