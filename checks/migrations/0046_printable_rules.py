from django.db import migrations, models

import nodes.models.words


class Migration(migrations.Migration):
    dependencies = [
        ("checks", "0045_steps_of_the_leader"),
    ]

    operations = [
        migrations.AlterField(
            model_name="rule",
            name="apart_from",
            field=models.CharField(
                blank=True,
                db_default="",
                default="",
                help_text="Checks, with * and ?: postgres*, mysql",
                max_length=1000,
                validators=[nodes.models.words.validate_words],
            ),
        ),
        migrations.AlterField(
            model_name="rule",
            name="check_pattern",
            field=models.CharField(
                default="*",
                help_text="Names, with * and ?: postgres*",
                max_length=253,
                validators=[nodes.models.words.validate_words],
                verbose_name="checks",
            ),
        ),
        migrations.AlterField(
            model_name="rule",
            name="name",
            field=models.CharField(max_length=253, unique=True, validators=[nodes.models.words.validate_words]),
        ),
        migrations.AlterField(
            model_name="rule",
            name="source_pattern",
            field=models.CharField(
                default="*",
                help_text="With * and ?: file:postgres.d/*",
                max_length=253,
                validators=[nodes.models.words.validate_words],
                verbose_name="origins",
            ),
        ),
        migrations.AlterField(
            model_name="rule",
            name="together_with",
            field=models.CharField(
                blank=True,
                db_default="",
                default="",
                help_text="Checks beside which it prefers to be: redisdb",
                max_length=1000,
                validators=[nodes.models.words.validate_words],
            ),
        ),
    ]
