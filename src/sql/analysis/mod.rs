//! The objects of a database that a custom command's statement would execute, judged before it runs. The server analyses the statement
//! as the action of a rule on a temporary table, in a transaction that rolls this back, and nothing is executed. The stored node tree
//! names every function, operator, type and relation; from these the analysis goes on through views, domains, defaults, policies,
//! triggers, index expressions, partitions and foreign keys. Whatever isn't PostgreSQL's own and on the allowlist is refused.

use crate::catalog::allowlist::FUNCTIONS;
use crate::catalog::{Command, Section};
use crate::model::LoginKind;
use crate::postgres::{
    AccessMode, Address, BoundSql, ColumnError, Environments, PgRow, PooledClient, QueryError, QueryResult,
    SqlValues, Transaction,
};
use crate::sql_lexer::SqlError;
pub use node_tree::ExpressionCall;
use node_tree::{Events, References, UnknownPart};
use std::collections::{BTreeSet, HashMap, HashSet};
use std::time::Duration;

mod node_tree;
mod probe;

/// Triggers that a refusal names.
const MAX_TRIGGERS: usize = 5;

/// More objects than this are not examined.
const MAX_OBJECTS: usize = 10_000;

/// `nextval(regclass)`, which a column's default may call.
const NEXTVAL: u32 = 1_574;

/// The statement about objects, with a digest of all that it tells.
const OBJECTS: &str = concat!(
    "WITH object AS (",
    include_str!("objects.sql"),
    ") SELECT object.*, (SELECT md5(string_agg(o::text, '' ORDER BY o.kind, o.oid)) FROM object AS o) AS digest FROM object"
);

/// Divides by zero if the digest of the same objects isn't $7.
const GUARD: &str = concat!(
    "WITH object AS (",
    include_str!("objects.sql"),
    ") SELECT 1 / CASE WHEN COALESCE((SELECT md5(string_agg(o::text, '' ORDER BY o.kind, o.oid)) FROM object AS o), '') = $7::text \
     THEN 1 ELSE 0 END"
);

/// Objects are looked at again so often if others have come meanwhile.
const MAX_PASSES: usize = 3;

/// Functions that may leave out the quotes around a literal in a statement's text, or give another part of it than its beginning.
const CUT_TEXT: [&str; 24] = [
    "btrim",
    "convert_to",
    "encode",
    "lpad",
    "ltrim",
    "overlay",
    "parse_ident",
    "quote_ident",
    "regexp_match",
    "regexp_matches",
    "regexp_replace",
    "regexp_split_to_array",
    "regexp_split_to_table",
    "regexp_substr",
    "replace",
    "reverse",
    "right",
    "split_part",
    "string_to_array",
    "string_to_table",
    "substr",
    "substring",
    "translate",
    "ts_headline",
];

/// The reason that a statement is not run.
#[derive(Debug, thiserror::Error)]
pub enum AnalysisError {
    /// PostgreSQL refused to analyse it.
    #[error(transparent)]
    Query(#[from] QueryError),
    /// In words that follow the target's name.
    #[error("{0}")]
    Refused(String),
    /// As [`AnalysisError::Refused`]: it would fire an application's triggers, which a reviewed file may.
    #[error("{0}")]
    Triggers(String),
    /// The reader may not create temporary tables; the statement that lets it.
    #[error(
        "isn't asked: custom SQL is analysed with a temporary table, which Countersign may not create; {0}"
    )]
    NoTemporaryTables(String),
}

impl From<SqlError> for AnalysisError {
    fn from(error: SqlError) -> AnalysisError {
        AnalysisError::Refused(format!("isn't asked: {}", error.reason))
    }
}

impl From<ColumnError> for AnalysisError {
    fn from(error: ColumnError) -> AnalysisError {
        QueryError::from(error).into()
    }
}

impl From<UnknownPart> for AnalysisError {
    fn from(part: UnknownPart) -> AnalysisError {
        AnalysisError::Refused(format!(
            "isn't asked: what it would execute can't be told, since it has a part that is unknown here ({part})"
        ))
    }
}

/// The result of an analysis that found nothing to refuse.
#[derive(Debug, Default)]
pub struct Analysis {
    /// A relation or function that shows other roles' sessions: "the view pg_stat_activity".
    pub sessions: Option<String>,
    /// It calls one of [`CUT_TEXT`].
    cuts_text: bool,
    /// Columns with text of statements: the relation's OID and the column's number.
    queries: HashSet<(u32, i16)>,
    /// All that it reaches.
    objects: Objects,
    /// Relations whose columns are stored, not computed by a query of the application's.
    stored: HashSet<u32>,
}

/// The objects that a statement reaches, and the digest of what was judged of them.
#[derive(Debug, Default)]
struct Objects {
    relations: Vec<u32>,
    events: Vec<Events>,
    types: Vec<u32>,
    functions: Vec<u32>,
    operators: Vec<u32>,
    digest: String,
}

impl Objects {
    fn of(references: &References) -> Objects {
        let list = |oids: &BTreeSet<u32>| oids.iter().copied().collect();
        Objects {
            relations: references.relations.keys().copied().collect(),
            events: references.relations.values().copied().collect(),
            types: list(&references.types),
            functions: list(&references.functions),
            operators: list(&references.operators),
            digest: String::new(),
        }
    }
}

impl Analysis {
    /// Runs a query right behind a check that every object is as it was judged: others can change one at any time.
    pub async fn query(&self, transaction: &Transaction<'_>, query: BoundSql<'_>) -> QueryResult {
        let (objects, names) = (&self.objects, function_names());
        let Objects { relations, events, types, functions, operators, digest } = objects;
        let values: SqlValues<'_> = &[relations, events, types, functions, operators, &names, digest];
        transaction.query_behind(BoundSql { sql: GUARD, values }, query).await?.ok_or_else(changed)
    }

    /// As [`Analysis::query`]; the number of rows that the statement changed or gave.
    pub async fn execute(&self, transaction: &Transaction<'_>, statement: BoundSql<'_>) -> QueryResult<u64> {
        let (objects, names) = (&self.objects, function_names());
        let Objects { relations, events, types, functions, operators, digest } = objects;
        let values: SqlValues<'_> = &[relations, events, types, functions, operators, &names, digest];
        transaction.execute_behind(BoundSql { sql: GUARD, values }, statement).await?.ok_or_else(changed)
    }

    /// The reason that a command which reads is not run, in words that follow the target's name: the statement shows other roles'
    /// sessions, and the header doesn't say that the command does.
    pub fn sessions_refusal(&self, command: &Command) -> Option<String> {
        let shown = self.sessions.as_ref().filter(|_| !command.needs_sessions())?;
        Some(format!(
            "isn't asked: it would read {shown}, which shows other roles' sessions; if it should, set \
             `needs_pg_read_all_stats = true` in its header"
        ))
    }

    /// True if a column of the result may have text of a statement.
    pub fn may_have_query(&self, column: &tokio_postgres::Column) -> bool {
        match self.stored_origin(column) {
            Some(origin) => self.queries.contains(&origin),
            None => self.sessions.is_some(),
        }
    }

    /// True if a column of the result may have a part of a statement's text, in which literals can't be told from the rest.
    pub fn may_have_part_of_query(&self, column: &tokio_postgres::Column) -> bool {
        self.cuts_text && self.sessions.is_some() && self.stored_origin(column).is_none()
    }

    /// The relation and the number of a column that is stored.
    fn stored_origin(&self, column: &tokio_postgres::Column) -> Option<(u32, i16)> {
        column.table_oid().zip(column.column_id()).filter(|(relation, _)| self.stored.contains(relation))
    }
}

/// Analyses a statement in an open transaction, which must be able to write, and undoes what that left.
/// After an error the transaction can only end.
pub async fn analyze(transaction: &Transaction<'_>, sql: &str) -> Result<Analysis, AnalysisError> {
    let probe = probe::without_values(sql)?;
    transaction.execute("SAVEPOINT countersign_analysis", &[]).await?;
    // A comparison with a literal is not one with NULL.
    transaction.query("SELECT set_config('transform_null_equals', 'off', true)", &[]).await?;
    transaction.execute("CREATE TEMPORARY TABLE countersign_analysis ()", &[]).await?;
    let rule = format!(
        "CREATE RULE countersign_analysis AS ON DELETE TO pg_temp.countersign_analysis DO INSTEAD WITH statement AS ({probe}\n) SELECT"
    );
    transaction.execute(&rule, &[]).await?;
    let tree = "SELECT ev_action::text, ev_class FROM pg_rewrite WHERE ev_class = 'pg_temp.countersign_analysis'::regclass";
    let rows = transaction.query(tree, &[]).await?;
    let mut references = References::default();
    for row in &rows {
        references.add(&row.get::<String>(0)?)?;
        // The rule's own table is not the statement's.
        references.relations.remove(&row.get(1)?);
    }
    let mut closure = Closure::default();
    closure.add(references, "");
    closure.complete(transaction).await?;
    transaction.execute("ROLLBACK TO SAVEPOINT countersign_analysis", &[]).await?;
    Ok(closure.analysis)
}

/// Analyses the statements for the server's major version as the reader, who owns nothing, in a transaction of its own. On a replica,
/// where nothing can be written, its primary is asked.
pub async fn check<'a>(
    environments: &Environments,
    address: &Address,
    application_name: &str,
    sections: impl FnOnce(u32) -> Vec<&'a Section>,
) -> Result<Vec<Analysis>, AnalysisError> {
    let client = primary(environments, address, application_name).await?;
    let transaction = begin(&client, Duration::MAX).await?;
    let mut found = Vec::new();
    for section in sections(client.major()) {
        match analyze(&transaction, &section.sql).await {
            Ok(analysis) => found.push(analysis),
            Err(error) => {
                transaction.roll_back().await;
                return Err(error);
            }
        }
    }
    transaction.roll_back().await;
    Ok(found)
}

/// Begins a transaction that analyses can be made in.
pub async fn begin(client: &PooledClient, limit: Duration) -> Result<Transaction<'_>, AnalysisError> {
    let rows = client
        .query(
            "SELECT has_database_privilege(current_database(), 'TEMPORARY'), quote_ident(current_database()),
                    quote_ident(current_user)",
            &[],
        )
        .await?;
    if let Some(row) = rows.first().filter(|row| row.value(0) != Some(true)) {
        let (database, role): (String, String) = (row.get(1)?, row.get(2)?);
        let grant = format!("GRANT TEMPORARY ON DATABASE {database} TO {role}");
        return Err(AnalysisError::NoTemporaryTables(grant));
    }
    Ok(client.begin(AccessMode::Scratch, limit.min(client.statement_timeout())).await?)
}

/// True if the server is a replica.
pub async fn is_replica(client: &PooledClient) -> Result<bool, QueryError> {
    let rows = client.query("SELECT pg_is_in_recovery()", &[]).await?;
    let row = rows.first().ok_or(QueryError::Lost)?;
    Ok(row.get(0)?)
}

/// The reader's connection to that database; a replica's is to the same database of its primary.
async fn primary(
    environments: &Environments,
    address: &Address,
    application_name: &str,
) -> Result<PooledClient, AnalysisError> {
    let unreachable = |error: crate::postgres::Unreachable| AnalysisError::Refused(error.to_string());
    let address = Address { login: LoginKind::Reader, ..address.clone() };
    let client = environments.acquire_single_use(&address, application_name).await.map_err(unreachable)?;
    if !is_replica(&client).await? {
        return Ok(client);
    }
    let identity = "SELECT system_identifier, pg_is_in_recovery() FROM pg_control_system()";
    let system =
        |rows: Vec<PgRow>| rows.first().and_then(|row| row.value::<i64>(0).zip(row.value::<bool>(1)));
    let replica = system(client.query(identity, &[]).await?);
    drop(client);
    let servers = environments.environment(&address.environment).map(|environment| &environment.servers);
    for server in servers.into_iter().flatten().filter(|server| server.name != address.server) {
        let address = Address { server: server.name.clone(), ..address.clone() };
        let Ok(client) = environments.acquire_single_use(&address, application_name).await else { continue };
        let found = system(client.query(identity, &[]).await?);
        if found.is_some() && found == replica.map(|(system, _)| (system, false)) {
            return Ok(client);
        }
    }
    Err(AnalysisError::Refused(
        "isn't asked: it is a replica, and custom SQL is analysed on its primary, which doesn't answer or is not among the \
         environment's servers"
            .to_owned(),
    ))
}

/// The reason that a target has no answer, in words that follow its name.
pub fn explain(error: &AnalysisError, command: &Command) -> String {
    match error {
        AnalysisError::Query(error) => super::explain(error, command),
        refused => refused.to_string(),
    }
}

fn function_names() -> Vec<&'static str> {
    FUNCTIONS.iter().copied().collect()
}

/// The error of a statement that isn't run.
fn changed() -> QueryError {
    let message = "isn't asked: an object that it would use was changed meanwhile; ask again".to_owned();
    QueryError::Refused { code: "40001".to_owned(), message }
}

/// The objects that a statement reaches.
#[derive(Default)]
struct Closure {
    known: References,
    /// Objects that are not examined yet.
    pending: References,
    /// Through which object others were reached: the kind and OID, and words such as " through the view public.v".
    paths: HashMap<(&'static str, u32), String>,
    /// Triggers that would fire: each one's function, and words such as "public.t.audit calls public.f(), owned by app".
    triggers: BTreeSet<(u32, String)>,
    analysis: Analysis,
}

impl References {
    fn is_empty(&self) -> bool {
        self.functions.is_empty()
            && self.operators.is_empty()
            && self.types.is_empty()
            && self.relations.is_empty()
    }

    fn len(&self) -> usize {
        self.functions.len() + self.operators.len() + self.types.len() + self.relations.len()
    }
}

/// The first OID that is not PostgreSQL's own.
const FIRST_OF_USERS: u32 = 16_384;

impl Closure {
    /// Adds what is not known yet.
    fn add(&mut self, references: References, path: &str) {
        let Closure { known, pending, paths, .. } = self;
        let mut note = |kind: &'static str, oid: u32| {
            paths.entry((kind, oid)).or_insert_with(|| path.to_owned());
        };
        for oid in references.functions.into_iter().filter(|oid| known.functions.insert(*oid)) {
            note("function", oid);
            pending.functions.insert(oid);
        }
        for oid in references.operators.into_iter().filter(|oid| known.operators.insert(*oid)) {
            note("operator", oid);
            pending.operators.insert(oid);
        }
        let of_users = references.types.into_iter().filter(|oid| *oid >= FIRST_OF_USERS);
        for oid in of_users.filter(|oid| known.types.insert(*oid)) {
            note("type", oid);
            pending.types.insert(oid);
        }
        for (oid, events) in references.relations {
            let before = known.relations.get(&oid).copied();
            known.relation(oid, events);
            let now = known.relations.get(&oid).copied();
            if before != now {
                note("relation", oid);
                pending.relation(oid, now.unwrap_or_default());
            }
        }
    }

    /// Examines what is pending until there is nothing new, and then all objects at once, since the first may be others by now.
    async fn complete(&mut self, transaction: &Transaction<'_>) -> Result<(), AnalysisError> {
        for _ in 0..MAX_PASSES {
            while !self.pending.is_empty() {
                let pending = std::mem::take(&mut self.pending);
                self.examine(transaction, &pending).await?;
            }
            let known = self.known.clone();
            self.analysis.objects = self.examine(transaction, &known).await?;
            if self.pending.is_empty() {
                return Ok(());
            }
        }
        Err(changed().into())
    }

    /// Examines objects, and adds what they refer to.
    async fn examine(
        &mut self,
        transaction: &Transaction<'_>,
        references: &References,
    ) -> Result<Objects, AnalysisError> {
        if self.known.len() > MAX_OBJECTS {
            let reason = format!("isn't asked: what it would execute are more than {MAX_OBJECTS} objects");
            return Err(AnalysisError::Refused(reason));
        }
        let (mut objects, names) = (Objects::of(references), function_names());
        let Objects { relations, events, types, functions, operators, .. } = &objects;
        let rows =
            transaction.query(OBJECTS, &[relations, events, types, functions, operators, &names]).await?;
        if rows.len() != references.len() {
            return Err(changed().into());
        }
        rows.iter().try_for_each(|row| self.object(row))?;
        if let Some(row) = rows.first() {
            objects.digest = row.get("digest")?;
        }
        Ok(objects)
    }

    /// The triggers whose functions aren't PostgreSQL's own.
    fn refused_triggers(&self) -> String {
        let refused = self.triggers.iter().filter(|(function, _)| *function >= FIRST_OF_USERS);
        let mut labels: Vec<&str> = refused.map(|(_, label)| label.as_str()).collect();
        labels.sort_unstable();
        let others = labels.len().saturating_sub(MAX_TRIGGERS);
        labels.truncate(MAX_TRIGGERS);
        let others = if others == 0 { String::new() } else { format!("; and {others} more") };
        labels.join("; ") + &others
    }

    /// Judges one object, and adds what it refers to.
    fn object(&mut self, row: &PgRow) -> Result<(), AnalysisError> {
        let (kind, oid, label): (String, u32, String) =
            (row.get("kind")?, row.get("oid")?, row.get("label")?);
        let kind =
            ["function", "operator", "type", "relation"].into_iter().find(|known| *known == kind.as_str());
        let path = kind.and_then(|kind| self.paths.get(&(kind, oid))).cloned().unwrap_or_default();
        if let Some(refusal) = row.get::<Option<String>>("refusal")? {
            if kind == Some("function") && self.triggers.iter().any(|(function, _)| *function == oid) {
                let triggers = self.refused_triggers();
                return Err(AnalysisError::Triggers(format!(
                    "isn't asked: it {refusal} {label}{path}. It would fire triggers: {triggers}. Their functions run with the rights of Countersign's login, \
                     those with SECURITY DEFINER with the rights of their owner. Custom SQL may not fire an application's triggers. A reviewed SQL file may"
                )));
            }
            return Err(AnalysisError::Refused(format!(
                "isn't asked: it {refusal} {label}{path}. Custom SQL may use only PostgreSQL's own functions on the allowlist: \
                 leave it out, or write a reviewed file for `run-sql`"
            )));
        }
        let name = label.split('(').next().unwrap_or_default().trim_matches('"');
        self.analysis.cuts_text |= kind == Some("function") && CUT_TEXT.contains(&name);
        if row.get("sessions")? {
            self.analysis.sessions.get_or_insert_with(|| format!("{label}{path}"));
        }
        if kind == Some("relation") {
            let queries = row.get::<Option<Vec<i16>>>("queries")?.unwrap_or_default();
            self.analysis.queries.extend(queries.into_iter().map(|column| (oid, column)));
            if row.get("stores")? {
                self.analysis.stored.insert(oid);
            }
        }
        let mut references = References::default();
        let functions = row.get::<Option<Vec<u32>>>("trigger_functions")?.unwrap_or_default();
        let triggers = row.get::<Option<Vec<String>>>("triggers")?.unwrap_or_default();
        self.triggers.extend(functions.into_iter().zip(triggers));
        let trees = |column: &str| row.get::<Option<Vec<String>>>(column).map(Option::unwrap_or_default);
        trees("defaults")?.iter().try_for_each(|tree| references.add(tree))?;
        references.functions.remove(&NEXTVAL);
        trees("trees")?.iter().try_for_each(|tree| references.add(tree))?;
        let oids = |column: &str| row.get::<Option<Vec<u32>>>(column).map(Option::unwrap_or_default);
        references.types.extend(oids("types")?);
        references.functions.extend(oids("functions")?);
        let events = row.get::<Option<Vec<i32>>>("events")?.unwrap_or_default();
        for (relation, events) in oids("relations")?.into_iter().zip(events) {
            references.relation(relation, events);
        }
        // The name of an operator's function says less than the operator's.
        let path = if kind == Some("operator") { path } else { format!(" through {label}") };
        self.add(references, &path);
        Ok(())
    }
}
