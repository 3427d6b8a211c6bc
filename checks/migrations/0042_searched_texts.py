from typing import Any

import django.db.models.deletion
from django.db import migrations, models, transaction

from clusteragent.lib.database.online import batches

# A trigger, so that what a replica of an older release stores is found, too. The rows go with their configs by the database,
# since that replica does not know them. In the collation C, lower() changes the letters of ASCII alone, as the search does
# with its words.
FOLD = """
    CREATE TABLE IF NOT EXISTS checks_searchedtext (
        config_id bigint PRIMARY KEY REFERENCES checks_config (id) ON DELETE CASCADE,
        folded text COLLATE "C" NOT NULL
    );
    CREATE OR REPLACE FUNCTION checks_fold_text() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        INSERT INTO checks_searchedtext (config_id, folded) VALUES (NEW.id, lower((NEW.title || E'\\n' || NEW.text) COLLATE "C"))
        ON CONFLICT (config_id) DO UPDATE SET folded = excluded.folded;
        RETURN NULL;
    END $$;
    DROP TRIGGER IF EXISTS checks_text_folded ON checks_config;
    CREATE TRIGGER checks_text_folded AFTER INSERT OR UPDATE OF title, text ON checks_config
        FOR EACH ROW EXECUTE FUNCTION checks_fold_text();
"""
FORGET = "DROP TRIGGER checks_text_folded ON checks_config; DROP FUNCTION checks_fold_text(); DROP TABLE checks_searchedtext;"
OF_BATCH = """
    INSERT INTO checks_searchedtext (config_id, folded)
    SELECT c.id, lower((c.title || E'\\n' || c.text) COLLATE "C") FROM checks_config AS c WHERE c.id BETWEEN %s AND %s
    ON CONFLICT (config_id) DO NOTHING
"""


def fold(apps: Any, editor: Any) -> None:
    """Let what is stored from now on be folded, then fold what was there. May be broken off, and begun anew."""
    with editor.connection.cursor() as cursor:
        with transaction.atomic():
            cursor.execute(FOLD)
        for first, last in batches(cursor, "checks_config"):
            cursor.execute(OF_BATCH, [first, last])
        cursor.execute("ANALYZE checks_searchedtext")


def forget(apps: Any, editor: Any) -> None:
    with editor.connection.cursor() as cursor:
        cursor.execute(FORGET)


class Migration(migrations.Migration):
    atomic = False
    dependencies = [("checks", "0041_bounded_orders")]
    operations = [
        migrations.SeparateDatabaseAndState(
            [migrations.RunPython(fold, forget)],
            [
                migrations.CreateModel(
                    "SearchedText",
                    [
                        (
                            "config",
                            models.OneToOneField(
                                on_delete=django.db.models.deletion.DO_NOTHING,
                                primary_key=True,
                                related_name="searched",
                                serialize=False,
                                to="checks.config",
                            ),
                        ),
                        ("folded", models.TextField(db_collation="C")),
                    ],
                )
            ],
        ),
        # Searches read these texts no more.
        migrations.RunSQL(
            "DROP STATISTICS IF EXISTS config_texts",
            'CREATE STATISTICS config_texts ON (lower(text COLLATE "C")) FROM checks_config',
        ),
    ]
