-- Functions and operators that Prisma's own SQL would call in place of PostgreSQL's: they are in a schema of its search_path, which is
-- $1 or that of the role's name, and match its arguments better. Extensions have operators of their types only.
SELECT what FROM (
  SELECT p.pronamespace AS schema, p.oid, 'pg_proc'::regclass AS class, 'FUNCTION ' || p.oid::regprocedure AS what
  FROM pg_proc p WHERE p.proname IN ('pg_advisory_lock', 'version', 'current_setting')
  UNION ALL
  SELECT o.oprnamespace, o.oid, 'pg_operator'::regclass, 'OPERATOR ' || o.oid::regoperator
  FROM pg_operator o
  WHERE o.oprname IN ('=', '+')
    AND o.oprleft = ANY ('{text,varchar,bpchar,name,"char",int2,int4,int8,timestamptz,unknown}'::regtype[])
    AND o.oprright = ANY ('{text,varchar,bpchar,name,"char",int2,int4,int8,timestamptz,unknown}'::regtype[])
) f
JOIN pg_namespace n ON n.oid = f.schema
WHERE n.nspname IN ($1, current_user)
  AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = f.class AND d.objid = f.oid AND d.deptype = 'e')
ORDER BY 1
LIMIT 5
