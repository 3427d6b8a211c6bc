from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("checks", "0034_between_and_in_order")]
    operations = [
        migrations.AddField("move", "promise", models.CharField(db_default="", default="", max_length=8)),
        migrations.AddField("move", "handed_at", models.DateTimeField(null=True)),
    ]
