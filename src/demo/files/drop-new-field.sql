/*
summary = "Drops an unused field that a migration added"
login = "owner"
timeout = "30s"
*/
ALTER TABLE public."User" DROP COLUMN IF EXISTS new_field;
