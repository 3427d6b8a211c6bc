"""The certificate of a runner that is kept, and another one that it shows. An older version leaves both as they are."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("nodes", "0023_peer")]
    operations = [
        migrations.AddField("runner", "certificate", models.CharField(db_default="", max_length=64)),
        migrations.AddField("runner", "certificate_since", models.DateTimeField(null=True)),
        migrations.AddField("runner", "other_certificate", models.CharField(db_default="", max_length=64)),
    ]
