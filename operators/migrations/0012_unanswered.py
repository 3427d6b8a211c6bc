from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("operators", "0011_bounds")]
    operations = [migrations.AddField("identity", "unanswered_at", models.DateTimeField(null=True))]
