-- An application's objects that call its own functions wherever PostgreSQL lets them, and others that do no harm. Each call draws from
-- the sequence `alarm`, which no rollback takes back.
CREATE SEQUENCE public.alarm;
CREATE FUNCTION public.evil(text) RETURNS text LANGUAGE plpgsql IMMUTABLE AS
  $$ BEGIN PERFORM pg_catalog.nextval('public.alarm'); RETURN $1; END $$;
CREATE FUNCTION public.evil_true(text, text) RETURNS boolean LANGUAGE plpgsql IMMUTABLE AS
  $$ BEGIN PERFORM pg_catalog.nextval('public.alarm'); RETURN true; END $$;
CREATE FUNCTION public.evil_state(boolean, text) RETURNS boolean LANGUAGE plpgsql IMMUTABLE AS
  $$ BEGIN PERFORM pg_catalog.nextval('public.alarm'); RETURN true; END $$;
CREATE FUNCTION public.evil_trigger() RETURNS trigger LANGUAGE plpgsql AS
  $$ BEGIN PERFORM pg_catalog.nextval('public.alarm'); RETURN coalesce(NEW, OLD); END $$;
CREATE AGGREGATE public.evil_any(text) (SFUNC = public.evil_state, STYPE = boolean, INITCOND = 'f');
CREATE OPERATOR public.@@@ (FUNCTION = public.evil_true, LEFTARG = text, RIGHTARG = text);

CREATE TYPE public.mood AS ENUM ('sad', 'happy');
CREATE FUNCTION public.evil_cast(public.mood) RETURNS integer LANGUAGE plpgsql IMMUTABLE AS
  $$ BEGIN PERFORM pg_catalog.nextval('public.alarm'); RETURN 1; END $$;
CREATE CAST (public.mood AS integer) WITH FUNCTION public.evil_cast(public.mood);
CREATE DOMAIN public.evil_domain AS text CHECK (public.evil(VALUE) IS NOT NULL);
CREATE DOMAIN public.evil_nested AS public.evil_domain;
CREATE TYPE public.evil_row AS (d public.evil_domain);
CREATE TYPE public.evil_range AS RANGE (SUBTYPE = public.evil_domain, SUBTYPE_OPCLASS = text_ops);
CREATE DOMAIN public.email AS text CHECK (VALUE ~ '@' AND length(VALUE) < 200);

CREATE VIEW public.evil_view AS SELECT public.evil('v') AS a;
CREATE VIEW public.evil_outer_view AS SELECT a FROM public.evil_view WHERE a IS NOT NULL;
CREATE TABLE public.evil_arrays (a public.evil_domain[], r public.evil_row);
CREATE TABLE public.evil_policy (id int);
ALTER TABLE public.evil_policy ENABLE ROW LEVEL SECURITY;
CREATE POLICY evil ON public.evil_policy USING (public.evil(id::text) IS NOT NULL);
INSERT INTO public.evil_policy VALUES (1);
CREATE TABLE public.evil_index (id text);
CREATE INDEX ON public.evil_index ((public.evil('const') || id));
CREATE TABLE public.evil_check (id text CHECK (public.evil(id) IS NOT NULL));
CREATE TABLE public.evil_generated (id text, g text GENERATED ALWAYS AS (public.evil(id)) STORED);
CREATE TABLE public.evil_default (id int, d text DEFAULT public.evil('d'));
CREATE TABLE public.evil_domained (id int, d public.evil_domain);
CREATE TABLE public.evil_triggered (id int);
CREATE TRIGGER evil BEFORE INSERT OR UPDATE OR DELETE ON public.evil_triggered FOR EACH ROW EXECUTE FUNCTION public.evil_trigger();
CREATE TABLE public.evil_ruled (id int);
CREATE RULE evil AS ON UPDATE TO public.evil_ruled DO ALSO SELECT public.evil('r');
CREATE TABLE public.parent (id int PRIMARY KEY);
CREATE TABLE public.evil_child (parent int REFERENCES public.parent ON DELETE CASCADE);
CREATE TRIGGER evil AFTER DELETE ON public.evil_child FOR EACH ROW EXECUTE FUNCTION public.evil_trigger();
INSERT INTO public.parent VALUES (1);
INSERT INTO public.evil_child VALUES (1);
CREATE TABLE public.partitioned (id int) PARTITION BY RANGE (id);
CREATE TABLE public.evil_partition PARTITION OF public.partitioned FOR VALUES FROM (0) TO (10);
CREATE TRIGGER evil BEFORE INSERT ON public.evil_partition FOR EACH ROW EXECUTE FUNCTION public.evil_trigger();
CREATE TABLE public.evil_key (id int) PARTITION BY RANGE ((length(public.evil('k')) + id));
CREATE TABLE public.keyed_partition PARTITION OF public.evil_key FOR VALUES FROM (0) TO (10);
CREATE TYPE public.evil_json AS ENUM ('a', 'b');
CREATE FUNCTION public.evil_to_json(public.evil_json) RETURNS json LANGUAGE plpgsql IMMUTABLE AS
  $$ BEGIN PERFORM pg_catalog.nextval('public.alarm'); RETURN '1'; END $$;
CREATE CAST (public.evil_json AS json) WITH FUNCTION public.evil_to_json(public.evil_json);
CREATE DOMAIN public.evil_json_domain AS public.evil_json;
CREATE TYPE public.evil_json_row AS (j public.evil_json);
CREATE TABLE public.written_as_json (j public.evil_json, d public.evil_json_domain, r public.evil_json_row, a public.evil_json[]);
INSERT INTO public.written_as_json VALUES ('a', 'a', ROW('a'), '{a}');
CREATE TYPE public.evil_implicit AS ENUM ('a', 'b');
CREATE FUNCTION public.evil_to_number(public.evil_implicit) RETURNS int LANGUAGE plpgsql IMMUTABLE AS
  $$ BEGIN PERFORM pg_catalog.nextval('public.alarm'); RETURN 1; END $$;
CREATE CAST (public.evil_implicit AS int) WITH FUNCTION public.evil_to_number(public.evil_implicit) AS IMPLICIT;
CREATE TABLE public.numbers (id int PRIMARY KEY);
CREATE TABLE public.converted_key (id int, n public.evil_implicit REFERENCES public.numbers);
CREATE TABLE public.indexed_parent (id int PRIMARY KEY);
CREATE TABLE public.indexed_child (id int, parent int REFERENCES public.indexed_parent);
INSERT INTO public.numbers VALUES (1), (2);
INSERT INTO public.converted_key VALUES (1, 'a');
INSERT INTO public.indexed_parent VALUES (1), (2);
CREATE INDEX ON public.indexed_parent ((length(public.evil('p')) + id));
CREATE TABLE public.plain_parent (id int PRIMARY KEY);
CREATE TABLE public.evil_indexed_child (id int, parent int REFERENCES public.plain_parent);
CREATE INDEX ON public.evil_indexed_child ((length(public.evil('c')) + id));
INSERT INTO public.plain_parent VALUES (1), (2);
CREATE VIEW public.activity AS SELECT pid, query FROM pg_catalog.pg_stat_activity;

CREATE TABLE public.notes (
    id serial PRIMARY KEY, note text CHECK (length(note) < 1000), mood public.mood DEFAULT 'happy', mail public.email,
    at timestamptz DEFAULT now(), upper_note text GENERATED ALWAYS AS (upper(note)) STORED);
CREATE INDEX ON public.notes (lower(note)) WHERE note IS NOT NULL;
CREATE VIEW public.notes_by_mood AS SELECT mood, count(*) AS notes FROM public.notes GROUP BY mood;
INSERT INTO public.notes (note, mail) VALUES ('one', 'a@example.com');

DELETE FROM public.evil_domained;
GRANT SELECT ON ALL TABLES IN SCHEMA public TO countersign_read, countersign_act;
GRANT INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO countersign_act;
GRANT ALL ON ALL SEQUENCES IN SCHEMA public TO PUBLIC;
SELECT pg_catalog.setval('public.alarm', 1, false);
