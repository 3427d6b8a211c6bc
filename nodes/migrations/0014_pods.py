import django.db.models.deletion
from django.db import migrations, models
from django.db.models.functions import Now


class Migration(migrations.Migration):
    dependencies = [("nodes", "0013_probes")]
    operations = [
        migrations.CreateModel(
            name="Pod",
            fields=[
                (
                    "node",
                    models.OneToOneField(
                        "nodes.node",
                        django.db.models.deletion.CASCADE,
                        db_constraint=False,
                        primary_key=True,
                        serialize=False,
                    ),
                ),
                ("namespace", models.CharField(max_length=253)),
                ("name", models.CharField(max_length=253)),
                ("uid", models.CharField(max_length=253)),
                ("kubernetes_node", models.CharField(db_default="", max_length=253)),
                ("zone", models.CharField(db_default="", max_length=253)),
                ("since", models.DateTimeField(db_default=Now())),
                ("deleted_at", models.DateTimeField(null=True)),
                ("gone_at", models.DateTimeField(null=True)),
                ("cordoned", models.BooleanField(db_default=False)),
            ],
        ),
    ]
