//! What the demo's team keeps beside its configuration: migrations with a stand-in for Prisma, and a reviewed SQL file. The
//! names and what they mean are data; what is done with them is the bot's business.

use super::postgres::Cluster;
use super::sample::Team;
use anyhow::Context;
use std::path::Path;

const PRISMA: &str = include_str!("prisma.sh");
const DROP_NEW_FIELD: &str = include_str!("drop-new-field.sql");

/// Those that every service's ledger has already: their scripts are their names.
const APPLIED: [&str; 3] =
    ["20250110090000_init", "20250402110000_audit_logs", "20250915140000_email_unique"];

/// Those to come: each waits first, since the sample is small, and then changes tables that every service has.
const TO_COME: [(&str, &str); 5] = [
    ("20260105090000_audit_source", "ALTER TABLE audit_logs ADD COLUMN source text;"),
    ("20260107100000_audit_source_index", "CREATE INDEX audit_logs_source_idx ON audit_logs (source);"),
    ("20260112090000_new_field", "ALTER TABLE \"User\" ADD COLUMN new_field text;"),
    ("20260114150000_user_locale", "ALTER TABLE \"User\" ADD COLUMN locale text NOT NULL DEFAULT 'en';"),
    ("20260119080000_audit_action_index", "CREATE INDEX audit_logs_action_idx ON audit_logs (action);"),
];

const WAIT: &str = "-- As long as this would take on a table of a business's size.\nSELECT pg_sleep(3);\n";

/// What the configuration says of them.
pub struct Files {
    /// Its sections `[migrate]` and `[sql]`.
    pub more: String,
    /// What of the services' sections is another.
    pub instead: Vec<(String, String)>,
}

/// Writes them.
///
/// # Errors
/// When a file can't be written.
pub fn write(directory: &Path, cluster: &Cluster, team: &Team) -> anyhow::Result<Files> {
    let file = |name: String, text: &str| -> anyhow::Result<()> {
        let path = directory.join(&name);
        let within = path.parent().unwrap_or(directory);
        std::fs::create_dir_all(within).with_context(|| format!("making {}", within.display()))?;
        std::fs::write(&path, text).with_context(|| format!("writing {name}"))
    };
    for name in APPLIED {
        file(format!("app/prisma/migrations/{name}/migration.sql"), &format!("-- {name}\n"))?;
    }
    for (name, sql) in TO_COME {
        file(format!("app/prisma/migrations/{name}/migration.sql"), &format!("{WAIT}{sql}\n"))?;
    }
    file("app/prisma.sh".to_owned(), PRISMA)?;
    file("sql/drop-new-field.sql".to_owned(), DROP_NEW_FIELD)?;
    // The server's own psql first.
    let path = format!("{}:/usr/local/bin:/usr/bin:/bin", cluster.bin_dir().display());
    let more = format!(
        "[migrate]\ndeploy = [\"sh\", \"prisma.sh\", \"migrate\", \"deploy\"]\n\
         resolve = [\"sh\", \"prisma.sh\", \"migrate\", \"resolve\", \"--{{as}}\", \"{{migration}}\"]\n\
         directory = \"app\"\nwithin = \"5m\"\nenv = {{ PATH = {path:?} }}\n\n[sql]\ndirectory = \"sql\"\n\n"
    );
    let instead = team.services.iter().map(|(service, _)| {
        let database = format!("database = \"{}\"\n", service.database);
        let both = format!("{database}migrations = \"app/prisma/migrations\"\n");
        (database, both)
    });
    Ok(Files { more, instead: instead.collect() })
}
