-- Version 1. Times are the server's; places, requests and purposes are JSON. Every name is qualified, or PostgreSQL's own: the
-- search_path is pg_catalog, pg_temp.

-- The head of the chain: whoever appends an event locks this row first, so that no two appends fork and every time is in order.
CREATE TABLE countersign.head (
    is_only  boolean PRIMARY KEY DEFAULT true CHECK (is_only),
    seq      bigint NOT NULL,
    hash     bytea NOT NULL,
    last_run bigint NOT NULL
);
INSERT INTO countersign.head (seq, hash, last_run) VALUES (0, decode(repeat('00', 32), 'hex'), 0);

-- The processes that write here. One whose counter stands still is marked as dead by another, and writes nothing more.
CREATE TABLE countersign.instances (
    id         text PRIMARY KEY,
    started_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    beat       bigint NOT NULL DEFAULT 0,
    is_dead    boolean NOT NULL DEFAULT false
);

CREATE TABLE countersign.runs (
    id          bigint PRIMARY KEY,
    version     bigint NOT NULL,
    state       text NOT NULL,
    opened_at   timestamptz NOT NULL,
    changed_at  timestamptz NOT NULL,
    deadline    timestamptz,
    -- The instance through which it became approved or running.
    owner       text,
    delivery_id text NOT NULL UNIQUE,
    request     text NOT NULL,
    -- What lists filter by.
    command     text NOT NULL GENERATED ALWAYS AS (request::jsonb ->> 'command') STORED,
    environment text GENERATED ALWAYS AS (request::jsonb ->> 'environment') STORED,
    requester   text NOT NULL GENERATED ALWAYS AS (request::jsonb #>> '{requester,id}') STORED,
    risk        text NOT NULL GENERATED ALWAYS AS (request::jsonb ->> 'risk') STORED,
    break_glass boolean NOT NULL
        GENERATED ALWAYS AS (coalesce((request::jsonb ->> 'break_glass')::boolean, false)) STORED
);
CREATE INDEX runs_by_state ON countersign.runs (state, id);
CREATE INDEX runs_open ON countersign.runs (deadline) WHERE state IN ('pending', 'approved', 'running');
CREATE INDEX runs_break_glass ON countersign.runs (id) WHERE break_glass;
CREATE INDEX runs_by_requester ON countersign.runs (requester, id);
CREATE INDEX runs_by_command ON countersign.runs (command, id);
CREATE INDEX runs_changing ON countersign.runs (id) WHERE risk <> 'read';

-- An event is its bytes: what is shown is what was hashed. write_id is what a caller looks for whose connection was lost.
CREATE TABLE countersign.events (
    seq      bigint PRIMARY KEY,
    run      bigint NOT NULL REFERENCES countersign.runs (id),
    bytes    text NOT NULL,
    hash     bytea NOT NULL,
    write_id text
);
CREATE INDEX events_of_run ON countersign.events (run, seq);

CREATE TABLE countersign.event_texts (
    seq  bigint NOT NULL REFERENCES countersign.events (seq),
    name text NOT NULL,
    key  bytea NOT NULL,
    text text NOT NULL,
    PRIMARY KEY (seq, name)
);

-- Resources of open runs; no environment is ''.
CREATE TABLE countersign.resource_locks (
    environment text NOT NULL,
    resource    text NOT NULL,
    run         bigint NOT NULL REFERENCES countersign.runs (id),
    PRIMARY KEY (environment, resource)
);
CREATE INDEX resource_locks_of_run ON countersign.resource_locks (run);

-- Resource locks of interrupted runs: a run takes them again when it resumes.
CREATE TABLE countersign.suspended_locks (
    run         bigint NOT NULL REFERENCES countersign.runs (id),
    environment text NOT NULL,
    resource    text NOT NULL,
    PRIMARY KEY (run, environment, resource)
);

CREATE TABLE countersign.tokens (
    token      text PRIMARY KEY,
    purpose    text NOT NULL,
    place      text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE INDEX tokens_created ON countersign.tokens (created_at);

CREATE TABLE countersign.cards (
    id            bigint PRIMARY KEY GENERATED ALWAYS AS IDENTITY,
    run           bigint NOT NULL REFERENCES countersign.runs (id),
    place         text NOT NULL,
    kind          text NOT NULL,
    message       text,
    shown_version bigint NOT NULL DEFAULT 0,
    -- The run's, kept here so that one row tells whether the card is outdated.
    run_version   bigint NOT NULL,
    abandoned     boolean NOT NULL DEFAULT false,
    -- Who sends it has it until then; a dead instance's claim is void.
    claimed_until timestamptz NOT NULL DEFAULT '-infinity',
    claimed_by    text NOT NULL DEFAULT '',
    is_outdated   boolean NOT NULL GENERATED ALWAYS AS (NOT abandoned AND shown_version < run_version) STORED
);
CREATE INDEX cards_of_run ON countersign.cards (run);
CREATE INDEX cards_outdated ON countersign.cards (id) WHERE is_outdated;

CREATE TABLE countersign.bindings (
    platform     text NOT NULL,
    workspace    text NOT NULL,
    conversation text NOT NULL,
    environment  text NOT NULL,
    PRIMARY KEY (platform, workspace, conversation)
);

CREATE TABLE countersign.settings (
    name  text PRIMARY KEY,
    value text NOT NULL
);

CREATE TABLE countersign.rate_limits (
    name    text PRIMARY KEY,
    ends_at timestamptz NOT NULL
);

-- A fence against mistakes of ours; the hash chain is what shows somebody else's.
CREATE FUNCTION countersign.refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'the audit log is append-only: % of %', TG_OP, TG_TABLE_NAME
        USING ERRCODE = 'integrity_constraint_violation';
END $$;
CREATE TRIGGER events_are_not_changed BEFORE UPDATE OR DELETE OR TRUNCATE ON countersign.events
    FOR EACH STATEMENT EXECUTE FUNCTION countersign.refuse_change();
CREATE FUNCTION countersign.refuse_gap() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF new.seq IS DISTINCT FROM (SELECT h.seq + 1 FROM countersign.head h) THEN
        RAISE EXCEPTION 'events are appended at the head only' USING ERRCODE = 'integrity_constraint_violation';
    END IF;
    RETURN new;
END $$;
CREATE TRIGGER events_are_appended BEFORE INSERT ON countersign.events
    FOR EACH ROW EXECUTE FUNCTION countersign.refuse_gap();
CREATE TRIGGER texts_are_not_changed BEFORE UPDATE OR TRUNCATE ON countersign.event_texts
    FOR EACH STATEMENT EXECUTE FUNCTION countersign.refuse_change();
CREATE TRIGGER runs_are_not_removed BEFORE DELETE OR TRUNCATE ON countersign.runs
    FOR EACH STATEMENT EXECUTE FUNCTION countersign.refuse_change();
CREATE TRIGGER requests_are_not_changed BEFORE UPDATE OF id, request, delivery_id, opened_at ON countersign.runs
    FOR EACH STATEMENT EXECUTE FUNCTION countersign.refuse_change();

-- A time as an event's JSON has it: UTC, no zeros at the end of its fraction.
CREATE FUNCTION countersign.json_time(t timestamptz) RETURNS text LANGUAGE sql STABLE STRICT AS $$
    SELECT rtrim(rtrim(to_char(t AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US'), '0'), '.') || 'Z'
$$;

-- Whole microseconds since 1970; of infinity, a number beyond every calendar.
CREATE FUNCTION countersign.microseconds(t timestamptz) RETURNS bigint LANGUAGE sql STABLE STRICT AS $$
    SELECT CASE WHEN isfinite(t)
        THEN (extract(epoch FROM date_trunc('second', t))::bigint * 1000000)
             + (extract(microseconds FROM t)::bigint % 1000000)
        ELSE 9223372036854775807 END
$$;

CREATE FUNCTION countersign.interval_of(microseconds text) RETURNS interval LANGUAGE sql IMMUTABLE STRICT AS $$
    SELECT microseconds::bigint * interval '1 microsecond'
$$;

-- A run with its events and their texts.
CREATE FUNCTION countersign.run_json(run_id bigint) RETURNS json LANGUAGE sql STABLE AS $$
    SELECT json_build_object(
        'id', r.id, 'version', r.version, 'state', r.state, 'request', r.request,
        'opened_at', countersign.microseconds(r.opened_at), 'changed_at', countersign.microseconds(r.changed_at),
        'deadline', countersign.microseconds(r.deadline),
        'events', (
            SELECT json_agg(json_build_object('seq', e.seq, 'bytes', e.bytes, 'texts', (
                       SELECT json_object_agg(t.name, t.text) FROM countersign.event_texts t WHERE t.seq = e.seq))
                   ORDER BY e.seq)
              FROM countersign.events e WHERE e.run = r.id))
      FROM countersign.runs r WHERE r.id = run_id
$$;

-- True for an instance that must write nothing: it is marked as dead, or not registered.
CREATE FUNCTION countersign.is_lost(instance text) RETURNS boolean LANGUAGE sql STABLE AS $$
    SELECT coalesce((SELECT i.is_dead FROM countersign.instances i WHERE i.id = instance), true)
$$;

-- The end of the state that an event leads to.
CREATE FUNCTION countersign.deadline_of(event jsonb, moment timestamptz, previous timestamptz)
RETURNS timestamptz LANGUAGE sql IMMUTABLE AS $$
    SELECT CASE event ->> 'deadline'
        WHEN 'unchanged' THEN previous
        WHEN 'none' THEN NULL
        -- A duration beyond the calendar's end is as good as none.
        ELSE CASE WHEN (event ->> 'deadline')::bigint < 250000000000000000
                  THEN moment + countersign.interval_of(event ->> 'deadline') END
    END
$$;

-- Adds an event to the chain. The head row is locked already. `event` has the bytes between the place and the deadline.
CREATE FUNCTION countersign.append_event(
    run_id bigint, moment timestamptz, deadline timestamptz, event jsonb, request text
) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    next_seq bigint;
    next_hash bytea;
    event_bytes text;
BEGIN
    SELECT h.seq + 1, h.hash INTO STRICT next_seq, next_hash FROM countersign.head h;
    event_bytes := '{"seq":' || next_seq || ',"run":' || run_id || ',"at":"' || countersign.json_time(moment) || '",'
        || (event ->> 'body') || ',"deadline":' || coalesce('"' || countersign.json_time(deadline) || '"', 'null')
        || coalesce(',"request":' || request, '') || '}';
    next_hash := sha256(next_hash || convert_to(event_bytes, 'UTF8'));
    INSERT INTO countersign.events (seq, run, bytes, hash, write_id)
    VALUES (next_seq, run_id, event_bytes, next_hash, event ->> 'write_id');
    INSERT INTO countersign.event_texts (seq, name, key, text)
    SELECT next_seq, t ->> 'name', decode(t ->> 'key', 'hex'), t ->> 'text'
      FROM jsonb_array_elements(event -> 'texts') t;
    UPDATE countersign.head SET seq = next_seq, hash = next_hash;
END $$;

-- The refusal while changes are frozen, or NULL.
CREATE FUNCTION countersign.freeze_refusal(is_condition boolean) RETURNS json LANGUAGE sql STABLE AS $$
    SELECT json_build_object('outcome', 'frozen', 'frozen', s.value)
      FROM countersign.settings s WHERE is_condition AND s.name = 'frozen'
$$;

-- Opens a run with its first event, or returns the obstacle. Called again with the same write_id it finds its own run.
CREATE FUNCTION countersign.open_run(input jsonb) RETURNS json LANGUAGE plpgsql AS $$
DECLARE
    event jsonb := input -> 'event';
    place text := coalesce((input ->> 'request')::jsonb ->> 'environment', '');
    run_id bigint;
    found_id bigint;
    moment timestamptz;
    deadline timestamptz;
    obstacle json;
BEGIN
    SELECT h.last_run + 1 INTO STRICT run_id FROM countersign.head h FOR UPDATE;
    moment := clock_timestamp();
    IF countersign.is_lost(input ->> 'instance') THEN
        RETURN json_build_object('outcome', 'instance_lost');
    END IF;
    SELECT r.id INTO found_id FROM countersign.runs r WHERE r.delivery_id = input ->> 'delivery_id';
    IF FOUND THEN
        IF (SELECT e.write_id FROM countersign.events e WHERE e.run = found_id ORDER BY e.seq LIMIT 1) = event ->> 'write_id' THEN
            RETURN json_build_object('outcome', 'done', 'run', countersign.run_json(found_id));
        END IF;
        RETURN json_build_object('outcome', 'duplicate', 'by', found_id);
    END IF;
    obstacle := countersign.freeze_refusal((input ->> 'unless_frozen')::boolean);
    IF obstacle IS NOT NULL THEN
        RETURN obstacle;
    END IF;
    SELECT r.id INTO found_id FROM countersign.runs r
     WHERE r.break_glass AND r.opened_at >= moment - countersign.interval_of(input ->> 'unless_break_glass_within')
     ORDER BY r.id DESC LIMIT 1;
    IF FOUND THEN
        RETURN json_build_object('outcome', 'rate_limited', 'run', countersign.run_json(found_id));
    END IF;
    SELECT json_build_object('outcome', 'resource_busy', 'resource', l.resource, 'by', l.run) INTO obstacle
      FROM jsonb_array_elements_text(input -> 'resources') wanted(resource)
      JOIN countersign.resource_locks l ON l.environment = place AND l.resource = wanted.resource
     ORDER BY l.resource COLLATE "C" LIMIT 1;
    IF FOUND THEN
        RETURN obstacle;
    END IF;
    deadline := countersign.deadline_of(event, moment, NULL);
    INSERT INTO countersign.runs (id, version, state, opened_at, changed_at, deadline, owner, delivery_id, request)
    VALUES (run_id, 1, event ->> 'state', moment, moment, deadline, input ->> 'owner', input ->> 'delivery_id', input ->> 'request');
    PERFORM countersign.append_event(run_id, moment, deadline, event, input ->> 'request');
    UPDATE countersign.head SET last_run = run_id;
    INSERT INTO countersign.cards (run, place, kind, run_version)
    SELECT run_id, card ->> 'place', card ->> 'kind', 1
      FROM jsonb_array_elements(input -> 'cards') WITH ORDINALITY c(card, n) ORDER BY n;
    INSERT INTO countersign.resource_locks (environment, resource, run)
    SELECT DISTINCT place, wanted.resource, run_id FROM jsonb_array_elements_text(input -> 'resources') wanted(resource);
    RETURN json_build_object('outcome', 'done', 'run', countersign.run_json(run_id));
END $$;

-- Takes the suspended locks of a run again. If another run holds one of them, takes none and returns its holder.
CREATE FUNCTION countersign.resume_locks(run_id bigint) RETURNS json LANGUAGE plpgsql AS $$
DECLARE
    obstacle json;
BEGIN
    SELECT json_build_object('outcome', 'resource_busy', 'resource', l.resource, 'by', l.run) INTO obstacle
      FROM countersign.suspended_locks s
      JOIN countersign.resource_locks l USING (environment, resource)
     WHERE s.run = run_id ORDER BY l.resource COLLATE "C" LIMIT 1;
    IF NOT FOUND THEN
        INSERT INTO countersign.resource_locks (environment, resource, run)
        SELECT s.environment, s.resource, run_id FROM countersign.suspended_locks s WHERE s.run = run_id;
        DELETE FROM countersign.suspended_locks s WHERE s.run = run_id;
    END IF;
    RETURN obstacle;
END $$;

-- Releases the locks of a run that is over; an interrupted one may resume, and keeps them in mind.
CREATE FUNCTION countersign.release_locks(run_id bigint, may_resume boolean) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    IF may_resume THEN
        INSERT INTO countersign.suspended_locks (run, environment, resource)
        SELECT run_id, l.environment, l.resource FROM countersign.resource_locks l WHERE l.run = run_id;
    ELSE
        DELETE FROM countersign.suspended_locks s WHERE s.run = run_id;
    END IF;
    DELETE FROM countersign.resource_locks l WHERE l.run = run_id;
END $$;

-- Appends an event if the run still has that version, or returns the obstacle. Called again with the same write_id it finds its
-- own event.
CREATE FUNCTION countersign.append_if_unchanged(input jsonb) RETURNS json LANGUAGE plpgsql AS $$
DECLARE
    event jsonb := input -> 'event';
    wanted_version bigint := (input ->> 'version')::bigint;
    condition text := input ->> 'deadline_condition';
    next_state text := event ->> 'state';
    is_open boolean := next_state IN ('pending', 'approved', 'running');
    run countersign.runs%ROWTYPE;
    moment timestamptz;
    next_deadline timestamptz;
    is_overdue boolean;
    obstacle json;
BEGIN
    PERFORM 1 FROM countersign.head FOR UPDATE;
    moment := clock_timestamp();
    IF countersign.is_lost(input ->> 'instance') THEN
        RETURN json_build_object('outcome', 'instance_lost');
    END IF;
    SELECT r.* INTO run FROM countersign.runs r WHERE r.id = (input ->> 'run')::bigint;
    IF NOT FOUND THEN
        RETURN json_build_object('outcome', 'missing');
    END IF;
    IF run.version <> wanted_version THEN
        RETURN json_build_object('outcome', CASE WHEN (
            SELECT e.write_id FROM countersign.events e WHERE e.run = run.id ORDER BY e.seq OFFSET wanted_version LIMIT 1
        ) = event ->> 'write_id' THEN 'done' ELSE 'version_conflict' END, 'run', countersign.run_json(run.id));
    END IF;
    is_overdue := coalesce(run.deadline <= moment, false)
        OR coalesce(run.opened_at + countersign.interval_of(input ->> 'max_age') <= moment, false);
    IF condition = 'ahead' AND is_overdue THEN
        RETURN json_build_object('outcome', 'overdue', 'run', countersign.run_json(run.id));
    ELSIF condition = 'passed' AND NOT is_overdue THEN
        RETURN json_build_object('outcome', 'not_overdue', 'run', countersign.run_json(run.id));
    END IF;
    obstacle := countersign.freeze_refusal((input ->> 'unless_frozen')::boolean);
    IF obstacle IS NULL AND is_open AND run.state NOT IN ('pending', 'approved', 'running') THEN
        obstacle := countersign.resume_locks(run.id);
    END IF;
    IF obstacle IS NOT NULL THEN
        RETURN obstacle;
    END IF;
    next_deadline := countersign.deadline_of(event, moment, run.deadline);
    PERFORM countersign.append_event(run.id, moment, next_deadline, event, NULL);
    UPDATE countersign.runs r
       SET version = r.version + 1, state = next_state, changed_at = moment, deadline = next_deadline,
           owner = CASE WHEN next_state <> run.state THEN coalesce(input ->> 'owner', r.owner) ELSE r.owner END
     WHERE r.id = run.id;
    UPDATE countersign.cards c SET run_version = wanted_version + 1 WHERE c.run = run.id;
    IF NOT is_open THEN
        PERFORM countersign.release_locks(run.id, next_state = 'interrupted');
    END IF;
    RETURN json_build_object('outcome', 'done', 'run', countersign.run_json(run.id));
END $$;

-- Sets or lifts the freeze. It waits for the head: what is appended afterwards sees it.
CREATE FUNCTION countersign.set_frozen(frozen text) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM 1 FROM countersign.head FOR UPDATE;
    DELETE FROM countersign.settings s WHERE s.name = 'frozen';
    INSERT INTO countersign.settings (name, value) SELECT 'frozen', frozen WHERE frozen IS NOT NULL;
END $$;

-- Marks an instance as dead whose counter still stands at `beat`. It waits for the head: what the instance appends afterwards is
-- refused.
CREATE FUNCTION countersign.mark_dead(instance text, seen_beat bigint) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM 1 FROM countersign.head FOR UPDATE;
    UPDATE countersign.instances i SET is_dead = true WHERE i.id = instance AND i.beat = seen_beat;
END $$;
