import django.db.models.deletion
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("nodes", "0012_drain_by")]
    operations = [
        migrations.AddField("heartbeat", "former_at", models.DateTimeField(null=True)),
        migrations.AddField("runner", "address", models.GenericIPAddressField(null=True)),
        migrations.AddField("runner", "failing_since", models.DateTimeField(null=True)),
        migrations.CreateModel(
            name="Probe",
            fields=[
                (
                    "heartbeat",
                    models.OneToOneField(
                        "nodes.heartbeat",
                        django.db.models.deletion.CASCADE,
                        db_column="node_id",
                        db_constraint=False,
                        primary_key=True,
                        serialize=False,
                    ),
                ),
                ("seen_at", models.DateTimeField()),
                ("address", models.GenericIPAddressField()),
                ("asked_at", models.DateTimeField()),
                ("refused_at", models.DateTimeField(null=True)),
                ("proven_at", models.DateTimeField(null=True)),
                ("doubted", models.BooleanField(db_default=False)),
            ],
        ),
    ]
