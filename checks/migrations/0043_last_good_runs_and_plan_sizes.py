from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("checks", "0042_searched_texts")]
    operations = [
        migrations.AddField("trouble", "last_good", models.DateTimeField(null=True)),
        migrations.AddField("plan", "size", models.PositiveIntegerField(null=True)),
    ]
