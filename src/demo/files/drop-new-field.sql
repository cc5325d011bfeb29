/*
summary = "Drops the field that a migration added and nobody uses"
login   = "owner"
timeout = "30s"
*/
ALTER TABLE public."User" DROP COLUMN IF EXISTS new_field;
