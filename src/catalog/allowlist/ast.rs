//! The parser's view of a statement: its tables, the names before a list of columns, the columns of its result.

use crate::sql_lexer::SqlError;
use sqlparser::ast::{
    Expr, Ident, ObjectName, Query, SelectItem, SetExpr, Statement, TableAlias, TableFactor, TableObject,
    Visit, Visitor,
};
use sqlparser::dialect::PostgreSqlDialect;
use sqlparser::parser::Parser;
use std::collections::HashSet;
use std::ops::ControlFlow;

/// A statement's names, by byte offset.
#[derive(Default)]
pub struct Structure {
    /// Names that a parenthesis with columns may follow: aliases, and the table of an INSERT.
    pub names_before_columns: HashSet<usize>,
    tables: Vec<TableUse>,
    /// Names that WITH gives.
    cte_names: HashSet<String>,
    /// The names of a plain SELECT's columns.
    pub columns: Option<Vec<String>>,
}

struct TableUse {
    at: usize,
    /// The table's name, after the names that qualify it.
    name: Vec<String>,
    changed: bool,
}

impl Structure {
    /// Parses one statement.
    ///
    /// # Errors
    /// The place that can't be parsed, or a kind of statement or table that custom SQL may not have.
    pub fn parse(sql: &str) -> Result<Structure, SqlError> {
        let parsed = Parser::parse_sql(&PostgreSqlDialect {}, sql)
            .map_err(|error| parse_error(sql, &error.to_string()))?;
        let [statement] = parsed.as_slice() else {
            return Err(SqlError::new(0, "one statement under each title"));
        };
        let columns = if let Statement::Query(query) = statement { columns(query) } else { None };
        let structure = Structure { columns, ..Structure::default() };
        let mut visitor = StructureVisitor { sql, structure };
        match statement.visit(&mut visitor) {
            ControlFlow::Continue(()) => Ok(visitor.structure),
            ControlFlow::Break(error) => Err(error),
        }
    }

    /// Errors for tables without a schema, since the search_path has only PostgreSQL's own. And for changes of PostgreSQL's own tables:
    /// an UPDATE of pg_settings changes settings.
    pub fn table_errors(&self) -> impl Iterator<Item = SqlError> {
        self.tables.iter().filter_map(|TableUse { at, name, changed }| {
            let is_system_schema = |schema: &str| schema.starts_with("pg_") || schema == "information_schema";
            match (name.as_slice(), changed) {
                ([table], false) if self.cte_names.contains(table) || is_system_schema(table) => None,
                ([table], changed) if !changed || !is_system_schema(table) => {
                    Some(format!("`{table}` has no schema: write it as `public.{table}`"))
                }
                ([schema, _], true) if !is_system_schema(schema) => None,
                ([_, _], false) => None,
                (_, true) => Some("what PostgreSQL itself keeps can't be changed by hand".to_owned()),
                _ => Some("a table is written as `schema.table`".to_owned()),
            }
            .map(|reason| SqlError::new(*at, reason))
        })
    }
}

/// The parser's error with its line and column turned into an offset.
fn parse_error(sql: &str, error: &str) -> SqlError {
    let words = error.strip_prefix("sql parser error: ").unwrap_or(error);
    let place = words.rsplit_once(" at Line: ").and_then(|(words, place)| {
        let (line, column) = place.split_once(", Column: ")?;
        Some((words, offset(sql, line.parse().ok()?, column.parse().ok()?)))
    });
    let (words, at) = place.unwrap_or((words, sql.trim_end().len()));
    SqlError::new(at, format!("it can't be read as PostgreSQL's SQL: {words}"))
}

/// Lines and columns count from 1, columns in characters.
fn offset(sql: &str, line: u64, column: u64) -> usize {
    let before = usize::try_from(line.saturating_sub(1)).unwrap_or(usize::MAX);
    let start: usize = sql.split_inclusive('\n').take(before).map(str::len).sum();
    let chars_before =
        sql[start..].chars().take(usize::try_from(column.saturating_sub(1)).unwrap_or(usize::MAX));
    start + chars_before.map(char::len_utf8).sum::<usize>()
}

fn columns(query: &Query) -> Option<Vec<String>> {
    let SetExpr::Select(select) = query.body.as_ref() else { return None };
    select.projection.iter().map(column).collect()
}

fn column(item: &SelectItem) -> Option<String> {
    match item {
        SelectItem::ExprWithAlias { alias, .. } => Some(folded(alias)),
        SelectItem::UnnamedExpr(Expr::Identifier(name)) => Some(folded(name)),
        SelectItem::UnnamedExpr(Expr::CompoundIdentifier(names)) => names.last().map(folded),
        SelectItem::UnnamedExpr(Expr::Function(function)) => parts(&function.name)?.pop(),
        _ => None,
    }
}

/// As PostgreSQL folds it.
fn folded(name: &Ident) -> String {
    if name.quote_style.is_some() { name.value.clone() } else { name.value.to_ascii_lowercase() }
}

fn parts(name: &ObjectName) -> Option<Vec<String>> {
    name.0.iter().map(|part| part.as_ident().map(folded)).collect()
}

struct StructureVisitor<'a> {
    sql: &'a str,
    structure: Structure,
}

impl StructureVisitor<'_> {
    fn place(&self, name: &Ident) -> usize {
        offset(self.sql, name.span.start.line, name.span.start.column)
    }

    fn alias(&mut self, alias: Option<&TableAlias>) {
        if let Some(alias) = alias {
            self.structure.names_before_columns.insert(self.place(&alias.name));
        }
    }

    fn table(&mut self, name: &ObjectName, changed: bool) {
        let first = name.0.first().and_then(|part| part.as_ident());
        let at = first.map_or(0, |name| self.place(name));
        // The visitor meets a changed table twice, first as the target: the first one decides.
        if !self.structure.tables.iter().any(|table| table.at == at) {
            self.structure.tables.push(TableUse { at, name: parts(name).unwrap_or_default(), changed });
        }
    }

    fn target(&mut self, table: &TableFactor) {
        if let TableFactor::Table { name, .. } = table {
            self.table(name, true);
        }
    }
}

impl Visitor for StructureVisitor<'_> {
    type Break = SqlError;

    fn pre_visit_statement(&mut self, statement: &Statement) -> ControlFlow<SqlError> {
        match statement {
            Statement::Insert(insert) => {
                if let TableObject::TableName(name) = &insert.table {
                    self.table(name, true);
                    let last = name.0.last().and_then(|part| part.as_ident());
                    self.structure.names_before_columns.extend(last.map(|name| self.place(name)));
                }
                let alias = insert.table_alias.as_ref().map(|alias| self.place(&alias.alias));
                self.structure.names_before_columns.extend(alias);
            }
            Statement::Update(update) => self.target(&update.table.relation),
            Statement::Delete(delete) => {
                let (sqlparser::ast::FromTable::WithFromKeyword(from)
                | sqlparser::ast::FromTable::WithoutKeyword(from)) = &delete.from;
                from.iter().for_each(|table| self.target(&table.relation));
            }
            Statement::Query(_) => {}
            _ => return ControlFlow::Break(SqlError::new(0, "this kind of statement is refused")),
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_query(&mut self, query: &Query) -> ControlFlow<SqlError> {
        for cte in query.with.iter().flat_map(|with| &with.cte_tables) {
            self.structure.cte_names.insert(folded(&cte.alias.name));
            self.alias(Some(&cte.alias));
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_table_factor(&mut self, table: &TableFactor) -> ControlFlow<SqlError> {
        match table {
            TableFactor::Table { name, alias, args, .. } => {
                if args.is_none() {
                    self.table(name, false);
                }
                self.alias(alias.as_ref());
            }
            TableFactor::Derived { alias, .. }
            | TableFactor::Function { alias, .. }
            | TableFactor::UNNEST { alias, .. }
            | TableFactor::NestedJoin { alias, .. } => self.alias(alias.as_ref()),
            _ => return ControlFlow::Break(SqlError::new(0, "a table of this kind is refused")),
        }
        ControlFlow::Continue(())
    }
}
