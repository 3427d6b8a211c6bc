from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("nodes", "0011_online")]
    operations = [
        # Nullable: an older version goes on writing nodes without it.
        migrations.AddField("node", "drain_by", models.DateTimeField(editable=False, null=True)),
    ]
