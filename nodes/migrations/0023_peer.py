"""Where the calls come from that hold a node's name."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("nodes", "0022_shared_token_uses"),
    ]

    operations = [
        migrations.AddField(
            model_name="heartbeat",
            name="peer",
            field=models.GenericIPAddressField(null=True),
        ),
    ]
