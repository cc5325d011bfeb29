-- Better matches, and equal ones, for every function, aggregate, operator, type and relation of PostgreSQL's whose name is among
-- the words of the setting planted.words. Each writes a line into the server's log when it is called. The schema is planted.schema.
SET search_path = pg_catalog;
SET check_function_bodies = off;
SET client_min_messages = error;

DO $plant$
DECLARE
    place text := quote_ident(current_setting('planted.schema'));
    words text[] := string_to_array(current_setting('planted.words'), ' ');
    single text[] := ARRAY['name', 'text', 'oid', '"char"', 'int2', 'int4', 'int8', 'float8', 'numeric', 'bool', 'timestamptz', 'interval', 'regclass',
                           'regtype', 'xid', 'inet', 'pg_lsn', 'name[]', 'text[]', 'oid[]', 'int2[]', 'int2vector', 'oidvector', 'json', 'jsonb', 'anyelement', 'anyarray'];
    paired text[] := ARRAY['name', 'text', 'oid', 'int4', 'int8', 'float8', 'numeric', 'bool', 'timestamptz', 'anyelement'];
    operand text[] := ARRAY['name', 'text', 'oid', '"char"', 'int2', 'int4', 'int8', 'float8', 'numeric', 'bool', 'timestamptz', 'regclass', 'xid'];
    body constant text := ' LANGUAGE plpgsql AS $f$ BEGIN RAISE LOG ''PLANTED %% called by %%'', %L, session_user; RETURN NULL; END $f$';
    wanted record;
    made int := 0;
BEGIN
    EXECUTE format('CREATE FUNCTION %s.planted(what text) RETURNS bool LANGUAGE plpgsql AS $f$ BEGIN RAISE LOG ''PLANTED %% called by %%'', what, session_user; RETURN true; END $f$', place);
    FOR wanted IN
        WITH known AS (
            SELECT p.proname, p.pronargs, p.prokind, p.provariadic <> 0 AS any_number, p.proargtypes,
                   ARRAY(SELECT format_type(t, NULL) FROM unnest(p.proargtypes) WITH ORDINALITY AS a (t, at) ORDER BY at) AS args,
                   CASE WHEN r.typtype = 'p' THEN NULL ELSE format_type(p.prorettype, NULL) END AS result,
                   EXISTS (SELECT FROM unnest(p.proargtypes) a JOIN pg_type t ON t.oid = a WHERE t.typtype = 'p' AND t.typname !~ '^any') AS internal
            FROM pg_proc p JOIN pg_type r ON r.oid = p.prorettype
            WHERE p.pronamespace = 'pg_catalog'::regnamespace AND p.proname = ANY (words)
        ), shapes AS (
            SELECT proname, prokind, pronargs, min(result) AS result, min(args) AS args FROM known WHERE prokind <> 'w' GROUP BY 1, 2, 3
        )
        SELECT proname, prokind, args, result FROM known WHERE prokind <> 'w' AND NOT internal
        UNION
        SELECT proname, prokind, ARRAY[t], result FROM shapes, unnest(single) AS t WHERE pronargs = 1
        UNION
        SELECT proname, prokind, ARRAY[a, b], result FROM shapes, unnest(paired) AS a, unnest(paired) AS b WHERE pronargs = 2 AND prokind = 'f'
        UNION
        SELECT proname, prokind, args[1:at - 1] || t || args[at + 1:], result
        FROM shapes, unnest(single) AS t, generate_series(1, pronargs) AS at WHERE pronargs BETWEEN 3 AND 4 AND prokind = 'f'
        UNION
        -- A variadic function is matched worse than one with as many arguments.
        SELECT proname, 'f'::"char", array_fill(t, ARRAY[number]), result FROM known, unnest(paired) AS t, generate_series(1, 6) AS number WHERE any_number
    LOOP
        BEGIN
            IF wanted.prokind = 'a' THEN
                EXECUTE format('CREATE OR REPLACE FUNCTION %s.planted_state(%s) RETURNS %s' || body,
                               place, array_to_string(COALESCE(wanted.result, 'text') || wanted.args, ', '), COALESCE(wanted.result, 'text'), 'an aggregate');
                EXECUTE format('CREATE AGGREGATE %s.%I(%s) (SFUNC = %s.planted_state, STYPE = %s)', place, wanted.proname,
                               COALESCE(NULLIF(array_to_string(wanted.args, ', '), ''), '*'), place, COALESCE(wanted.result, 'text'));
            ELSE
                EXECUTE format('CREATE FUNCTION %s.%I(%s) RETURNS %s' || body, place, wanted.proname,
                               array_to_string(wanted.args, ', '), COALESCE(wanted.result, 'text'),
                               format('%s(%s)', wanted.proname, array_to_string(wanted.args, ', ')));
            END IF;
            made := made + 1;
        EXCEPTION WHEN OTHERS THEN NULL;
        END;
    END LOOP;
    FOR wanted IN
        SELECT o.oprname, l AS lefttype, r AS righttype, COALESCE(min(format_type(t.oid, NULL)), 'text') AS result
        FROM pg_operator o LEFT JOIN pg_type t ON t.oid = o.oprresult AND t.typtype = 'b', unnest(operand) AS l, unnest(operand) AS r
        WHERE o.oprnamespace = 'pg_catalog'::regnamespace AND o.oprname = ANY (words) AND o.oprkind = 'b' GROUP BY 1, 2, 3
    LOOP
        EXECUTE format('CREATE FUNCTION %s.%I(%s, %s) RETURNS %s' || body, place, 'planted ' || wanted.oprname,
                       wanted.lefttype, wanted.righttype, wanted.result, format('%s %s %s', wanted.lefttype, wanted.oprname, wanted.righttype));
        EXECUTE format('CREATE OPERATOR %s.%s (LEFTARG = %s, RIGHTARG = %s, FUNCTION = %s.%I)', place, wanted.oprname, wanted.lefttype, wanted.righttype,
                       place, 'planted ' || wanted.oprname);
        made := made + 1;
    END LOOP;
    FOR wanted IN
        SELECT c.relname, string_agg(quote_ident(a.attname), ', ' ORDER BY a.attnum) AS columns
        FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 JOIN pg_type t ON t.oid = a.atttypid AND t.typtype <> 'p'
        WHERE c.relnamespace = 'pg_catalog'::regnamespace AND c.relkind IN ('r', 'v') AND c.relname = ANY (words) GROUP BY 1
    LOOP
        EXECUTE format('CREATE VIEW %s.%I AS SELECT %s FROM pg_catalog.%2$I r WHERE %1$s.planted(%4$L)', place, wanted.relname, wanted.columns, wanted.relname);
        EXECUTE format('GRANT SELECT ON %s.%I TO PUBLIC', place, wanted.relname);
        made := made + 1;
    END LOOP;
    FOR wanted IN
        SELECT typname FROM pg_type WHERE typnamespace = 'pg_catalog'::regnamespace AND typtype = 'b' AND typelem = 0 AND typname = ANY (words)
    LOOP
        EXECUTE format('CREATE DOMAIN %s.%I AS pg_catalog.%2$I CHECK (%1$s.planted(%2$L))', place, wanted.typname);
        made := made + 1;
    END LOOP;
    PERFORM set_config('planted.made', made::text, false);
END
$plant$;

SELECT current_setting('planted.made')::int AS made;
