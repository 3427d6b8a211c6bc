import django.db.models.deletion
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("nodes", "0014_pods")]
    operations = [
        migrations.CreateModel(
            name="Slowness",
            fields=[
                (
                    "node",
                    models.OneToOneField(
                        "nodes.node",
                        django.db.models.deletion.CASCADE,
                        db_constraint=False,
                        primary_key=True,
                        related_name="slowness",
                        serialize=False,
                    ),
                ),
                ("factor", models.FloatField(null=True)),
                ("checks", models.PositiveIntegerField(default=0)),
                ("others", models.PositiveIntegerField(default=0)),
                ("missed", models.PositiveIntegerField(default=0)),
                ("level", models.SmallIntegerField(default=0)),
                ("rounds", models.SmallIntegerField(default=0)),
                ("since", models.DateTimeField(null=True)),
                ("share", models.FloatField(default=1.0)),
                ("step", models.FloatField(default=0.2)),
                ("heading", models.SmallIntegerField(default=0)),
                ("steps", models.PositiveSmallIntegerField(default=0)),
                ("discount", models.FloatField(default=1.0)),
            ],
        ),
        migrations.CreateModel(
            name="MissedPolls",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("seen_at", models.DateTimeField()),
                ("number", models.PositiveIntegerField()),
                (
                    "node",
                    models.ForeignKey(
                        "nodes.node",
                        django.db.models.deletion.CASCADE,
                        db_constraint=False,
                        db_index=False,
                        related_name="missed_polls",
                    ),
                ),
            ],
            options={
                "constraints": [models.UniqueConstraint(fields=("node", "seen_at"), name="missedpolls_node_report")]
            },
        ),
    ]
