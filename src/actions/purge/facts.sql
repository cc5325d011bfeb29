-- What an approver should know of a table ($1, oid), as the role that would delete sees it.
SELECT pg_is_in_recovery() AS replica, current_setting('default_transaction_read_only')::bool AS read_only,
       row_security_active(c.oid) AS row_security,
       ARRAY(SELECT quote_ident(r.rulename) FROM pg_rewrite r WHERE r.ev_class = c.oid AND r.ev_type = '4' AND r.ev_enabled <> 'D' ORDER BY 1) AS rules,
       k.name AS key_name, k.type AS key_type,
       ARRAY(SELECT format('%I.%I.%I (%s)', rn.nspname, r.relname, f.conname,
                           CASE f.confdeltype WHEN 'c' THEN 'ON DELETE CASCADE: its rows go too, and are not counted'
                                              WHEN 'n' THEN 'ON DELETE SET NULL' WHEN 'd' THEN 'ON DELETE SET DEFAULT'
                                              WHEN 'r' THEN 'ON DELETE RESTRICT: a row that is referred to ends the purge'
                                              ELSE 'NO ACTION: a row that is referred to ends the purge' END)
             FROM pg_constraint f JOIN pg_class r ON r.oid = f.conrelid JOIN pg_namespace rn ON rn.oid = r.relnamespace
             WHERE f.contype = 'f' AND f.confrelid = c.oid ORDER BY 1) AS referred,
       ARRAY(SELECT quote_ident(t.tgname) FROM pg_trigger t
             WHERE t.tgrelid = c.oid AND NOT t.tgisinternal AND t.tgtype & 8 <> 0 AND t.tgenabled <> 'D' ORDER BY 1) AS triggers
FROM pg_class c
LEFT JOIN LATERAL (
  -- Numbers and uuids only: the key is noted in the record, where no text of a customer's may be.
  SELECT quote_ident(a.attname) AS name, format_type(a.atttypid, NULL) AS type
  FROM pg_index i JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = i.indkey[0]
  WHERE i.indrelid = c.oid AND i.indisprimary AND i.indisvalid AND i.indnkeyatts = 1
    AND a.atttypid IN ('int2'::regtype, 'int4'::regtype, 'int8'::regtype, 'uuid'::regtype)
) k ON true
WHERE c.oid = $1::int8::oid
