import django.db.models.deletion
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("checks", "0032_accepted_by"), ("nodes", "0018_overload")]
    operations = [
        migrations.AddField(
            "handover",
            "between",
            models.ForeignKey(
                "nodes.node",
                django.db.models.deletion.DO_NOTHING,
                db_constraint=False,
                db_index=False,
                null=True,
                related_name="+",
            ),
        )
    ]
