from django.db import migrations, models

import nodes.models.words


class Migration(migrations.Migration):
    dependencies = [
        ("nodes", "0025_former_peers"),
    ]

    operations = [
        migrations.AlterField(
            model_name="noderule",
            name="pattern",
            field=models.CharField(
                blank=True,
                default="*",
                help_text="Of nodes, with * and ?: runner-*",
                max_length=253,
                validators=[nodes.models.words.validate_words],
                verbose_name="names",
            ),
        ),
    ]
