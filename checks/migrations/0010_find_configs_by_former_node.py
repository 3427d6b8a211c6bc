from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("checks", "0009_count_decisions"),
    ]

    operations = [
        migrations.RemoveIndex(
            model_name="config",
            name="config_of_lost_node",
        ),
        migrations.AddIndex(
            model_name="config",
            index=models.Index(
                condition=models.Q(("former_node__isnull", False)),
                fields=["former_node"],
                name="config_of_former_node",
            ),
        ),
    ]
