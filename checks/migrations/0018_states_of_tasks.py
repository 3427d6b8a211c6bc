from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("checks", "0017_online")]
    operations = [
        migrations.AddField("taskrun", "state", models.CharField(db_default="", max_length=64)),
        migrations.AddField("taskrun", "due_at", models.DateTimeField(null=True)),
    ]
