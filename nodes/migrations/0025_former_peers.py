from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("nodes", "0024_runner_certificates")]
    operations = [
        migrations.AddField("heartbeat", "peer_since", models.DateTimeField(null=True)),
        migrations.AddField("heartbeat", "former_peer", models.GenericIPAddressField(null=True)),
    ]
