from django.db import migrations

# Beside the moves that were made, those that rebalances decided on: plans are pruned, too.
COUNT = """
    CREATE FUNCTION checks_count_decisions() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        INSERT INTO checks_movetotal AS t (reason, number) VALUES ('decided', jsonb_array_length(NEW.moves))
        ON CONFLICT (reason) DO UPDATE SET number = t.number + excluded.number;
        RETURN NULL;
    END $$;
    CREATE TRIGGER checks_plan_decided AFTER UPDATE OF applied_at ON checks_plan FOR EACH ROW
        WHEN (OLD.applied_at IS NULL AND NEW.applied_at IS NOT NULL AND NEW.reason = 'rebalanced')
        EXECUTE FUNCTION checks_count_decisions();
"""
FORGET = "DROP TRIGGER checks_plan_decided ON checks_plan; DROP FUNCTION checks_count_decisions();"


class Migration(migrations.Migration):
    dependencies = [("checks", "0008_edits_and_orders_of_plans")]
    operations = [migrations.RunSQL(COUNT, FORGET)]
