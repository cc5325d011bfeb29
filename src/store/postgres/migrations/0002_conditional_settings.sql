-- Version 2. A change of the freeze or of a conversation's environment counts only while the run that makes it is executed: an instance
-- that was paused may wake just before it.

-- True if the instance executes that run, or if there is no run.
CREATE FUNCTION countersign.is_executing(instance text, run_id bigint) RETURNS boolean LANGUAGE sql STABLE AS $$
    SELECT run_id IS NULL OR NOT countersign.is_lost(instance) AND EXISTS (
        SELECT FROM countersign.runs r WHERE r.id = run_id AND r.state = 'running' AND r.owner = instance)
$$;

-- Sets or lifts the freeze, if `seen` is still in force. It waits for the head: what is appended afterwards sees it. Called again after its
-- connection was lost, it finds the freeze that it set.
CREATE FUNCTION countersign.change_freeze(seen text, wanted text, run_id bigint, instance text) RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE
    current jsonb;
BEGIN
    PERFORM 1 FROM countersign.head FOR UPDATE;
    IF NOT countersign.is_executing(instance, run_id) THEN
        RETURN false;
    END IF;
    SELECT s.value INTO current FROM countersign.settings s WHERE s.name = 'frozen';
    IF current IS DISTINCT FROM seen::jsonb THEN
        RETURN coalesce(current = wanted::jsonb, false);
    END IF;
    PERFORM countersign.set_frozen(wanted);
    RETURN true;
END $$;
