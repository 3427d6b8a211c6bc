import django.db.models.deletion
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("nodes", "0018_overload")]
    operations = [
        migrations.CreateModel(
            name="RunLength",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("check_id", models.TextField()),
                ("length", models.FloatField()),
                (
                    "node",
                    models.ForeignKey(
                        "nodes.node",
                        django.db.models.deletion.CASCADE,
                        db_constraint=False,
                        db_index=False,
                        related_name="run_lengths",
                    ),
                ),
            ],
            options={
                "constraints": [models.UniqueConstraint(fields=("node", "check_id"), name="runlength_node_check")]
            },
        ),
    ]
