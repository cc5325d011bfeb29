"""Stands in for `prisma migrate deploy` and `prisma migrate resolve`: the same ledger, lock, checksums and refusals.

It speaks through psql, which it tells everything by its environment. STAND_IN says how it misbehaves:
leak, flood, idle (ends well and does nothing), grumpy (does all and ends with 3), deaf (hears no SIGTERM),
mute (writes nothing, so that nobody has to read it).
"""

import hashlib
import os
import pathlib
import signal
import subprocess
import sys
import time
import urllib.parse
import uuid

MODE = os.environ.get("STAND_IN", "")
MARK = "-- said --"


class Session:
    def __init__(self, url):
        parts = urllib.parse.urlsplit(url)
        options = dict(urllib.parse.parse_qsl(parts.query))
        known = {
            "PGHOST": parts.hostname,
            "PGPORT": str(parts.port),
            "PGUSER": urllib.parse.unquote(parts.username),
            "PGPASSWORD": urllib.parse.unquote(parts.password or ""),
            "PGDATABASE": urllib.parse.unquote(parts.path[1:]),
            "PGSSLMODE": options["sslmode"],
            "PGAPPNAME": options["application_name"],
            "PGOPTIONS": options["options"],
        }
        program = [os.environ["PSQL"], "--no-psqlrc", "--quiet", "--no-align", "--tuples-only"]
        pipe = subprocess.PIPE
        self.psql = subprocess.Popen(program, stdin=pipe, stdout=pipe, stderr=subprocess.STDOUT, text=True, env=known)

    def ask(self, sql):
        """The rows, and the SQLSTATE ("00000" if all is well)."""
        self.psql.stdin.write(f"{sql}\n;\n\\echo '{MARK}' :SQLSTATE\n")
        self.psql.stdin.flush()
        lines = []
        for line in self.psql.stdout:
            if line.startswith(MARK):
                return lines, line.split()[-1]
            lines.append(line.rstrip("\n"))
        if MODE == "deaf":
            time.sleep(3600)
        sys.exit("Error: P1001\n\nCan't reach database server")


def quoted(text):
    return "'" + text.replace("'", "''") + "'"


def migrations():
    directory = pathlib.Path("prisma/migrations")
    return sorted(entry for entry in directory.iterdir() if entry.is_dir())


def begin(session):
    if MODE == "deaf":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    session.ask(
        """CREATE TABLE IF NOT EXISTS _prisma_migrations (
             id varchar(36) PRIMARY KEY, checksum varchar(64) NOT NULL, finished_at timestamptz,
             migration_name varchar(255) NOT NULL, logs text, rolled_back_at timestamptz,
             started_at timestamptz NOT NULL DEFAULT now(), applied_steps_count integer NOT NULL DEFAULT 0)"""
    )
    session.ask("SELECT pg_advisory_lock(72707369)")


def insert(session, migration, finished):
    script = (migration / "migration.sql").read_bytes()
    values = [str(uuid.uuid4()), hashlib.sha256(script).hexdigest(), migration.name]
    finished = "now()" if finished else "NULL"
    session.ask(
        "INSERT INTO _prisma_migrations (id, checksum, migration_name, finished_at) "
        f"VALUES ({', '.join(map(quoted, values))}, {finished})"
    )
    return values[0]


def deploy(session):
    all_of_them = migrations()
    print(f"{len(all_of_them)} migrations found in prisma/migrations\n", flush=True)
    rows, _ = session.ask("SELECT migration_name FROM _prisma_migrations WHERE finished_at IS NULL AND rolled_back_at IS NULL")
    if rows:
        sys.exit(f"Error: P3009\n\nThe `{rows[0]}` migration failed")
    known, _ = session.ask("SELECT migration_name FROM _prisma_migrations WHERE rolled_back_at IS NULL")
    for migration in all_of_them:
        if migration.name in known:
            continue
        print(f"Applying migration `{migration.name}`", flush=True)
        row = insert(session, migration, False)
        script = (migration / "migration.sql").read_text()
        # As one message is one transaction.
        session.ask("BEGIN")
        said, _ = session.ask(script + "\n;\nCOMMIT")
        state, _ = session.ask("SELECT 1")
        failed = [line for line in said if "ERROR:" in line]
        if failed or not state:
            session.ask("ROLLBACK")
            logs = "A migration failed to apply.\n\nDatabase error code: 23505\n\nDatabase error:\n" + "\n".join(said)
            session.ask(f"UPDATE _prisma_migrations SET logs = {quoted(logs)} WHERE id = '{row}'")
            sys.exit(f"Error: P3018\n\n{logs}\n\nMigration name: {migration.name}")
        session.ask(f"UPDATE _prisma_migrations SET finished_at = now(), applied_steps_count = 1 WHERE id = '{row}'")
    print("All migrations have been successfully applied.", flush=True)


def resolve(session, claim, name):
    relevant = f"WHERE migration_name = {quoted(name)}"
    rows, _ = session.ask(f"SELECT finished_at IS NULL AND rolled_back_at IS NULL FROM _prisma_migrations {relevant}")
    if claim == "--rolled-back":
        if "t" not in rows:
            sys.exit(f"Error: P3012\n\n{name} cannot be rolled back")
    else:
        found = [migration for migration in migrations() if migration.name == name]
        if not found:
            sys.exit(f"Error: P3017\n\nThe migration {name} could not be found")
    session.ask(f"UPDATE _prisma_migrations SET rolled_back_at = now() {relevant} AND finished_at IS NULL AND rolled_back_at IS NULL")
    if claim == "--applied":
        insert(session, found[0], True)
    print(f"Migration {name} marked as {claim[2:]}.")


def main():
    if MODE == "mute":
        sys.stdout = open(os.devnull, "w")
    url = os.environ["DATABASE_URL"]
    if MODE == "leak":
        password = urllib.parse.urlsplit(url).password
        print(f"\x1b[31mconnecting to {url}\x1b[0m", flush=True)
        print(f"with {password} or {urllib.parse.unquote(password)} and {os.environ['NPM_TOKEN']}", file=sys.stderr, flush=True)
        print(f"and {dict(os.environ)}", flush=True)
    if MODE == "flood":
        print("x1y2 " * 200_000)
        for number in range(100_000):
            print(f"line {number}")
        sys.stdout.flush()
    if MODE == "idle":
        return
    session = Session(url)
    begin(session)
    match sys.argv[1:]:
        case ["migrate", "deploy"]:
            deploy(session)
        case ["migrate", "resolve", claim, name]:
            resolve(session, claim, name)
        case other:
            sys.exit(f"unknown: {other}")
    if MODE == "grumpy":
        sys.exit(3)


main()
