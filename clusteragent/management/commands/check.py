"""Django's `check`, which also says which of the Datadog Cluster Agent's options have an effect here."""

from typing import Any

from django.core.management.commands import check

from clusteragent.lib import peer_options


class Command(check.Command):
    def handle(self, *args: Any, **options: Any) -> None:
        """Run Django's checks, then write which options of the peer are honoured and which have no effect."""
        super().handle(*args, **options)
        if names := peer_options.honoured():
            self.stdout.write(f"Honoured as by the Datadog Cluster Agent: {', '.join(names)}.")
        for sentence in peer_options.sentences():
            self.stdout.write(sentence)
