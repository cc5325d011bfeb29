-- Objects of a database: what each would execute, and what it refers to. $1, $2: relations and what is done to each, in the bits of
-- pg_trigger.tgtype and 2^20 for columns' defaults. $3: types, $4: functions, $5: operators, all by OID. $6: names of pg_catalog's
-- functions that may be called. Objects below 16384 are PostgreSQL's own since initdb.
WITH relation AS (
    SELECT c.oid, c.relkind, c.relnamespace, c.relname, c.relrowsecurity, events,
           c.oid < 16384 AS own,
           EXISTS (SELECT FROM pg_depend d JOIN pg_extension e ON e.oid = d.refobjid
                   WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.refclassid = 'pg_extension'::regclass
                     AND d.deptype = 'e' AND e.extname = 'pg_stat_statements') AS statements
    FROM unnest($1::oid[], $2::int[]) AS asked (oid, events)
    JOIN pg_class c ON c.oid = asked.oid
),
-- An UPDATE that moves a row to another partition deletes and inserts.
changed AS (
    SELECT *, CASE WHEN relkind = 'p' AND events & 16 <> 0 THEN events | 28 ELSE events END AS all_events FROM relation
),
-- Tables for which a plan is made, which computes the constants in their expressions: a relation, and those at the other end of its
-- foreign keys, where a change looks for rows.
planned (relation, oid) AS (
    SELECT r.oid, r.oid FROM changed r WHERE NOT r.own AND NOT r.statements
    UNION
    SELECT r.oid, f.confrelid FROM changed r JOIN pg_constraint f ON f.conrelid = r.oid AND f.contype = 'f'
    WHERE r.all_events & 20 <> 0
    UNION
    SELECT r.oid, f.conrelid FROM changed r JOIN pg_constraint f ON f.confrelid = r.oid AND f.contype = 'f'
    WHERE r.all_events & 24 <> 0
),
tree (relation, tree) AS (
    SELECT r.oid, t.tree
    FROM changed r,
    LATERAL (
        SELECT polqual::text FROM pg_policy WHERE polrelid = r.oid AND r.relrowsecurity
        UNION ALL SELECT polwithcheck::text FROM pg_policy WHERE polrelid = r.oid AND r.relrowsecurity
        UNION ALL
        SELECT d.adbin::text
        FROM pg_attrdef d JOIN pg_attribute a ON a.attrelid = d.adrelid AND a.attnum = d.adnum
        WHERE d.adrelid = r.oid AND a.attgenerated <> ''
        UNION ALL
        SELECT tgqual::text FROM pg_trigger
        WHERE tgrelid = r.oid AND NOT tgisinternal AND tgenabled <> 'D' AND tgtype & r.all_events & 28 <> 0
        UNION ALL
        -- A view's query is its rule for SELECT, 1; 2 is UPDATE, 3 INSERT, 4 DELETE.
        SELECT action FROM pg_rewrite w, LATERAL (VALUES (w.ev_action::text), (w.ev_qual::text)) AS part (action)
        WHERE w.ev_class = r.oid
          AND (w.ev_type = '1' AND r.relkind = 'v'
               OR r.events & CASE w.ev_type WHEN '2' THEN 16 WHEN '3' THEN 4 WHEN '4' THEN 8 ELSE 0 END <> 0)
    ) AS t (tree)
    WHERE NOT r.own AND NOT r.statements AND t.tree IS NOT NULL AND t.tree <> '<>'
    UNION ALL
    SELECT p.relation, t.tree
    FROM planned p,
    LATERAL (
        SELECT indexprs::text FROM pg_index WHERE indrelid = p.oid
        UNION ALL SELECT indpred::text FROM pg_index WHERE indrelid = p.oid
        UNION ALL SELECT conbin::text FROM pg_constraint WHERE conrelid = p.oid AND contype = 'c'
        UNION ALL SELECT to_jsonb(s) ->> 'stxexprs' FROM pg_statistic_ext s WHERE stxrelid = p.oid
        -- A row of a partition is checked against the keys of all tables that it is a part of.
        UNION ALL
        SELECT k.partexprs::text FROM pg_partition_ancestors(p.oid) a JOIN pg_partitioned_table k ON k.partrelid = a.relid
    ) AS t (tree)
    WHERE t.tree IS NOT NULL
),
-- Casts of keys to the type at the other end of a foreign key.
converted (relation, castfunc) AS MATERIALIZED (
    SELECT f.relation, k.castfunc
    FROM (SELECT r.oid AS relation, conrelid, conkey FROM changed r JOIN pg_constraint ON conrelid = r.oid AND contype = 'f'
          WHERE r.all_events & 28 <> 0
          UNION ALL
          SELECT r.oid, conrelid, conkey FROM changed r JOIN pg_constraint ON confrelid = r.oid AND contype = 'f'
          WHERE r.all_events & 28 <> 0) AS f
    JOIN pg_attribute a ON a.attrelid = f.conrelid AND a.attnum = ANY (f.conkey)
    JOIN pg_cast k ON k.castsource = a.atttypid AND k.castcontext = 'i' AND k.castfunc >= 16384
),
-- Tables that are read or changed with another: its children, and what a foreign key changes.
follows (relation, oid, events) AS (
    SELECT r.oid, i.inhrelid, r.all_events FROM changed r JOIN pg_inherits i ON i.inhparent = r.oid WHERE NOT r.own
    UNION ALL
    SELECT r.oid, f.conrelid, CASE action WHEN 'c' THEN changes WHEN 'd' THEN 16 | 1048576 ELSE 16 END
    FROM changed r
    JOIN pg_constraint f ON f.confrelid = r.oid AND f.contype = 'f',
    LATERAL (VALUES (f.confdeltype, 8), (f.confupdtype, 16)) AS reaction (action, changes)
    WHERE r.all_events & changes <> 0 AND action IN ('c', 'n', 'd')
),
-- Views that show other roles' sessions call one of these.
shows_sessions AS (
    SELECT ':funcid (' || string_agg(oid::text, '|') || ') ' AS pattern
    FROM pg_proc
    WHERE pronamespace = 'pg_catalog'::regnamespace
      AND proname IN ('pg_stat_get_activity', 'pg_stat_get_progress_info', 'pg_stat_get_subscription', 'pg_stat_get_wal_receiver',
                      'pg_stat_get_wal_senders', 'pg_lock_status', 'pg_prepared_xact')
)
SELECT 'relation' AS kind, r.oid,
       CASE r.relkind WHEN 'v' THEN 'the view ' WHEN 'f' THEN 'the foreign table ' ELSE 'the table ' END
           || CASE WHEN r.own THEN r.relname::text ELSE format('%I.%I', n.nspname, r.relname) END AS label,
       CASE WHEN r.relkind = 'f' THEN 'would read' END AS refusal,
       r.statements OR r.own AND r.relkind = 'v'
           AND EXISTS (SELECT FROM pg_rewrite w, shows_sessions WHERE w.ev_class = r.oid AND w.ev_action::text ~ pattern) AS sessions,
       (SELECT array_agg(attnum ORDER BY attnum) FROM pg_attribute
        WHERE attrelid = r.oid AND attname IN ('query', 'statement') AND (r.own OR r.statements)) AS queries,
       r.own OR r.relkind <> 'v' AS stores,
       t.trees,
       (SELECT array_agg(d.adbin::text ORDER BY d.adnum)
        FROM pg_attrdef d JOIN pg_attribute a ON a.attrelid = d.adrelid AND a.attnum = d.adnum
        WHERE d.adrelid = r.oid AND a.attgenerated = '' AND r.events & 1048576 <> 0) AS defaults,
       w.relations, w.events,
       (SELECT array_agg(atttypid ORDER BY attnum) FROM pg_attribute
        WHERE attrelid = r.oid AND attnum > 0 AND NOT attisdropped AND r.events & 20 <> 0 AND NOT r.own) AS types,
       (SELECT array_agg(function ORDER BY function)
        FROM (SELECT tgfoid::oid AS function FROM pg_trigger
              WHERE tgrelid = r.oid AND NOT tgisinternal AND tgenabled <> 'D' AND tgtype & r.all_events & 28 <> 0
              UNION ALL SELECT castfunc FROM converted WHERE relation = r.oid) AS called) AS functions,
       g.functions AS trigger_functions, g.labels AS triggers
FROM changed r
JOIN pg_namespace n ON n.oid = r.relnamespace
LEFT JOIN (SELECT relation, array_agg(tree ORDER BY tree) AS trees FROM tree GROUP BY 1) t ON t.relation = r.oid
LEFT JOIN (SELECT relation, array_agg(oid ORDER BY oid, events) AS relations, array_agg(events ORDER BY oid, events) AS events
           FROM follows GROUP BY 1) w ON w.relation = r.oid
CROSS JOIN LATERAL (
    SELECT array_agg(t.tgfoid::oid ORDER BY t.tgname) AS functions,
           array_agg(format('%I.%I.%I calls %s, owned by %I', n.nspname, r.relname, t.tgname, t.tgfoid::regprocedure,
                            pg_get_userbyid(p.proowner)) ORDER BY t.tgname) AS labels
    FROM pg_trigger t JOIN pg_proc p ON p.oid = t.tgfoid
    WHERE t.tgrelid = r.oid AND NOT t.tgisinternal AND t.tgenabled <> 'D' AND t.tgtype & r.all_events & 28 <> 0) AS g
UNION ALL
SELECT 'type', t.oid, CASE t.typtype WHEN 'd' THEN 'the domain ' ELSE 'the type ' END || format_type(t.oid, NULL),
       CASE
           WHEN t.oid < 16384 OR t.typtype IN ('c', 'd', 'e', 'r', 'm') THEN NULL
           -- Only a superuser makes a base type, from functions in C. An array's functions are PostgreSQL's own.
           WHEN t.typtype = 'b' AND NOT EXISTS (
               SELECT FROM pg_proc p JOIN pg_language l ON l.oid = p.prolang
               WHERE p.oid IN (t.typinput, t.typoutput, t.typreceive, t.typsend, t.typmodin, t.typmodout)
                 AND l.lanname NOT IN ('c', 'internal')) THEN NULL
           ELSE 'would use'
       END,
       false, NULL, true,
       (SELECT array_agg(tree ORDER BY tree)
        FROM (SELECT conbin::text AS tree FROM pg_constraint WHERE contypid = t.oid AND conbin IS NOT NULL) AS checks),
       CASE WHEN t.typdefaultbin IS NOT NULL THEN ARRAY[t.typdefaultbin::text] END, NULL, NULL,
       (SELECT array_agg(part ORDER BY part)
        FROM (SELECT unnest(ARRAY[t.typelem, t.typbasetype]) AS part
              UNION ALL SELECT atttypid FROM pg_attribute WHERE attrelid = t.typrelid AND attnum > 0 AND NOT attisdropped
              UNION ALL SELECT rngsubtype FROM pg_range WHERE rngtypid = t.oid
              UNION ALL SELECT rngtypid FROM pg_range g WHERE (to_jsonb(g) ->> 'rngmultitypid')::oid = t.oid) AS parts
        WHERE part >= 16384),
       (SELECT array_agg(function ORDER BY function)
        FROM (SELECT part::oid AS function FROM pg_range, unnest(ARRAY[rngcanonical, rngsubdiff]) AS part
              WHERE rngtypid = t.oid AND part <> 0
              -- What writes JSON converts a value by its type's cast to json. A superuser's, in C, is part of the type.
              UNION ALL
              SELECT k.castfunc
              FROM pg_cast k JOIN pg_proc p ON p.oid = k.castfunc JOIN pg_language l ON l.oid = p.prolang
              WHERE k.castsource = t.oid AND k.casttarget IN ('json'::regtype, 'jsonb'::regtype) AND l.lanname NOT IN ('c', 'internal')
             ) AS called),
       NULL, NULL
FROM pg_type t WHERE t.oid = ANY ($3)
UNION ALL
SELECT 'function', p.oid, p.oid::regprocedure::text,
       CASE
           WHEN p.oid < 16384 AND p.pronamespace = 'pg_catalog'::regnamespace
                AND (p.proname = ANY ($6)
                     OR p.prorettype = 'tsm_handler'::regtype
                     OR p.provolatile <> 'v'
                        AND (EXISTS (SELECT FROM pg_operator WHERE oprcode = p.oid AND oid < 16384)
                             OR EXISTS (SELECT FROM pg_cast WHERE castfunc = p.oid AND oid < 16384)
                             OR EXISTS (SELECT FROM pg_amproc WHERE amproc = p.oid AND oid < 16384))) THEN NULL
           ELSE 'would call'
       END,
       p.pronamespace = 'pg_catalog'::regnamespace AND p.proname = 'pg_blocking_pids', NULL, true, NULL, NULL, NULL, NULL, NULL,
       NULL, NULL, NULL
FROM pg_proc p WHERE p.oid = ANY ($4)
UNION ALL
SELECT 'operator', o.oid, 'the operator ' || o.oid::regoperator::text,
       CASE WHEN o.oid < 16384 AND o.oprnamespace = 'pg_catalog'::regnamespace THEN NULL ELSE 'would use' END,
       false, NULL, true, NULL, NULL, NULL, NULL, NULL, ARRAY[o.oprcode::oid], NULL, NULL
FROM pg_operator o WHERE o.oid = ANY ($5)
