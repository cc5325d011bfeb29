# A stub of `prisma migrate deploy` and `prisma migrate resolve`: Prisma's lock, its ledger, its order. The database's URL
# is in its environment, and what psql needs of it goes there too: never onto a command line.
set -eu

url=${DATABASE_URL#*://}
login=${url%%@*} place=${url#*@}
options=${place#*\?} place=${place%%\?*}
address=${place%%/*}
export PGUSER="${login%%:*}" PGPASSWORD="${login#*:}" PGHOST="${address%:*}" PGPORT="${address#*:}" PGDATABASE="${place#*/}"
PGAPPNAME=$(printf '%s' "$options" | sed 's/.*application_name=\([^&]*\).*/\1/; s/%20/ /g; s/%23/#/g')
export PGAPPNAME

# An echo that leaves backslashes alone.
say() { printf '%s\n' "$1"; }

checksum() { { sha256sum "$1" 2>/dev/null || shasum -a 256 "$1"; } | cut -c 1-64; }

begin() { say "SELECT pg_advisory_lock(72707369);"; }

insert() { # $1 the migration, $2 when it was finished
    say "INSERT INTO _prisma_migrations (id, checksum, migration_name, finished_at)
          VALUES (gen_random_uuid(), '$(checksum "prisma/migrations/$1/migration.sql")', '$1', $2);"
}

deploy() {
    begin
    for directory in prisma/migrations/*/; do
        name=$(basename "$directory")
        say "SELECT count(*) = 0 AS to_come FROM _prisma_migrations
              WHERE migration_name = '$name' AND finished_at IS NOT NULL AND rolled_back_at IS NULL \\gset"
        say "\\if :to_come"
        say "\\echo Applying migration $name"
        insert "$name" NULL
        say "BEGIN;"
        say "\\i ${directory}migration.sql"
        say "COMMIT;"
        say "UPDATE _prisma_migrations SET finished_at = now(), applied_steps_count = 1
              WHERE migration_name = '$name' AND finished_at IS NULL AND rolled_back_at IS NULL;"
        say "\\endif"
    done
    say "\\echo All migrations have been successfully applied."
}

resolve() { # $1 "--applied" or "--rolled-back", $2 the migration
    begin
    say "UPDATE _prisma_migrations SET rolled_back_at = now()
          WHERE migration_name = '$2' AND finished_at IS NULL AND rolled_back_at IS NULL;"
    if [ "$1" = --applied ]; then insert "$2" "now()"; fi
    say "\\echo Migration $2 marked as ${1#--}."
}

case "$1 $2" in
    "migrate deploy") deploy ;;
    "migrate resolve") resolve "$3" "$4" ;;
esac | psql --no-psqlrc --quiet --no-align --tuples-only --set ON_ERROR_STOP=1 --output /dev/null
