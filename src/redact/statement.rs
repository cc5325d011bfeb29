//! Writes a statement again from its tokens, without its data, and decides which unquoted words may hold a secret.
//!
//! Literals are gone before this file sees them. The word lists below only choose how much *more* to hide,
//! or name what is known to be harmless; they are never the reason why a literal is shown.

use super::patterns;
use crate::sql_lexer::{self, SqlToken, TokenKind};

/// Statements in which a bare word is a name of the schema, never a secret.
const READABLE: &str = "\
    select with insert update delete merge values table explain declare fetch move close prepare execute \
    deallocate call copy truncate vacuum analyze analyse reindex cluster refresh lock begin start commit end \
    rollback abort savepoint release show discard listen unlisten notify checkpoint do drop comment repack \
    autovacuum autoprewarm start_replication identify_system base_backup create_replication_slot \
    drop_replication_slot read_replication_slot timeline_history wait";

/// Kinds of objects that CREATE and ALTER make without a credential.
const READABLE_KINDS: &str = "\
    table index view materialized sequence schema type domain extension trigger policy statistics publication";

/// Words between CREATE or ALTER and the kind of object.
const MODIFIERS: &str = "\
    or replace unique temp temporary unlogged global local recursive constraint";

/// Words after `password =` that are no password.
const HARMLESS_VALUES: &str = "\
    null default true false any all some case not array row select and or cast excluded";

/// Parameters go up to $65535 (the protocol counts them in 16 bits).
const MAX_PARAM_DIGITS: usize = 5;

/// Numbers with more digits may be a card, a telephone or an account.
pub(super) const MAX_SHOWN_DIGITS: usize = 3;

/// The longest local part of an e-mail address (RFC 5321, 4.5.3.1.1), which bounds the look ahead.
const MAX_LOCAL_PART: usize = 64;

/// The kind of a statement, as its first words tell.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
enum StatementClass {
    /// Nothing read yet.
    #[default]
    Start,
    /// CREATE or ALTER; the kind of object is not read yet.
    Definition,
    /// Data and maintenance.
    Data,
    /// A definition without credentials.
    Schema,
    /// May contain a credential, or is unknown.
    MaybeCredential,
}

/// The end of an unquoted stretch that is shown as one `?`.
#[derive(Clone, Copy, PartialEq, Eq)]
enum HiddenUntil {
    Semicolon,
    /// The number of open parentheses, the last of which closes.
    CloseParenthesis(usize),
}

/// A name that announces a secret, and the operator after it.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
enum Assignment {
    #[default]
    None,
    Name,
    Operator,
}

#[derive(Default)]
struct StatementState {
    class: StatementClass,
    after_set: bool,
    after_options: bool,
    after_connection: bool,
    assignment: Assignment,
}

#[derive(Default)]
struct Writer {
    out: String,
    statement: StatementState,
    hiding: Option<HiddenUntil>,
    mask_written: bool,
    /// The start of a word that is hidden unless the next token makes it a qualifier or a function.
    value_at: Option<usize>,
    /// The rest of the text is hidden.
    cut: bool,
}

/// The SQL of `sql` on one line, without its data.
///
/// Every string becomes `'?'`, every number of four or more digits `?`, every comment a space. The text may
/// be cut anywhere, as `pg_stat_activity` cuts it at `track_activity_query_size`: a literal or comment
/// without an end, or one whose end depends on `standard_conforming_strings`, takes all that follows with
/// it. Applying it twice changes nothing. <https://www.postgresql.org/docs/current/sql-syntax-lexical.html>
pub fn query(sql: &str) -> String {
    let mut writer = Writer::default();
    for token in sql_lexer::lenient(sql) {
        writer.step(token, &sql[token.at..]);
        if writer.cut {
            break;
        }
    }
    writer.mask_pending_value(None);
    writer.out
}

impl Writer {
    fn step(&mut self, token: SqlToken, rest: &str) {
        if token.kind == TokenKind::Unreadable || begins_address(token, rest) {
            self.mask_pending_value(None);
            return self.cut(token.after_blank);
        }
        if self.hides(token) {
            return;
        }
        self.mask_pending_value(Some(token));
        if std::mem::take(&mut self.statement.after_connection) && !token.is("limit") {
            return self.cut(true);
        }
        if std::mem::take(&mut self.statement.after_options) && token.is_symbol("(") {
            self.hide(HiddenUntil::CloseParenthesis(1));
        }
        match token.kind {
            TokenKind::Word => self.word(token),
            TokenKind::QuotedName => self.quoted(token),
            TokenKind::Symbol => self.symbol(token),
            _ => self.value(token),
        }
    }

    fn value(&mut self, token: SqlToken) {
        let shown = match token.kind {
            TokenKind::Number if is_short(token.text) => token.text,
            TokenKind::Parameter if token.text.len() <= 1 + MAX_PARAM_DIGITS => token.text,
            TokenKind::String => "'?'",
            _ => "?",
        };
        // Text such as `name'…'` would read as a prefixed literal the next time.
        let touches = |c: char| c.is_alphanumeric() || "_$'".contains(c) || !c.is_ascii();
        self.push(shown, token.after_blank || token.kind == TokenKind::String && self.out.ends_with(touches));
        self.statement.assignment = Assignment::None;
    }

    /// Within a hidden stretch: swallows the token, or finds that the stretch has ended with it.
    fn hides(&mut self, token: SqlToken) -> bool {
        self.hiding = match self.hiding {
            Some(HiddenUntil::Semicolon) if token.is_symbol(";") => None,
            Some(HiddenUntil::CloseParenthesis(1)) if token.is_symbol(")") => None,
            Some(HiddenUntil::CloseParenthesis(open)) if token.is_symbol(")") => {
                Some(HiddenUntil::CloseParenthesis(open - 1))
            }
            Some(HiddenUntil::CloseParenthesis(open)) if token.is_symbol("(") => {
                Some(HiddenUntil::CloseParenthesis(open + 1))
            }
            unchanged => unchanged,
        };
        if self.hiding.is_some() && !std::mem::replace(&mut self.mask_written, true) {
            self.push("?", token.after_blank);
        }
        self.hiding.is_some()
    }

    fn hide(&mut self, until: HiddenUntil) {
        self.hiding = Some(until);
        self.mask_written = false;
    }

    fn word(&mut self, token: SqlToken) {
        let lower = token.text.to_ascii_lowercase();
        self.classify(&lower);
        let class = self.statement.class;
        let shown = if patterns::is_secret_word(token.text) { "?" } else { token.text };
        let start = self.push(shown, token.after_blank);
        self.statement.after_options = class != StatementClass::Data && lower == "options";
        if matches!(class, StatementClass::Data | StatementClass::Schema) {
            return self.assign(start, &lower);
        }
        if patterns::is_sensitive(&lower) {
            return self.cut(true);
        }
        self.statement.after_connection = lower == "connection";
        self.statement.after_set |= lower == "set";
        if lower == "to" && self.statement.after_set {
            self.hide(HiddenUntil::Semicolon);
        }
    }

    fn quoted(&mut self, token: SqlToken) {
        let name = patterns::visible(token.text);
        let is_name = patterns::is_name(name.trim_start_matches(['u', 'U', '&']).trim_matches('"'));
        let touches = self.out.ends_with('"');
        let start = self.push(if is_name { &name } else { "\"?\"" }, token.after_blank || touches);
        if matches!(self.statement.class, StatementClass::Data | StatementClass::Schema) {
            self.assign(start, &name);
        } else if patterns::is_sensitive(&name) {
            self.cut(true);
        }
    }

    fn symbol(&mut self, token: SqlToken) {
        self.push(token.text, token.after_blank);
        match token.text {
            ";" => self.statement = StatementState::default(),
            "=" if self.statement.after_set => self.hide(HiddenUntil::Semicolon),
            "=" if self.statement.assignment == Assignment::Name => {
                self.statement.assignment = Assignment::Operator
            }
            ":" | "!" | ">" => {}
            _ => self.statement.assignment = Assignment::None,
        }
    }

    /// The first word tells the statement, and the first after CREATE or ALTER that is no modifier tells its object.
    fn classify(&mut self, word: &str) {
        self.statement.class = match self.statement.class {
            StatementClass::Start if matches!(word, "create" | "alter") => StatementClass::Definition,
            StatementClass::Start if patterns::listed(READABLE, word) => StatementClass::Data,
            StatementClass::Definition if patterns::listed(MODIFIERS, word) => StatementClass::Definition,
            StatementClass::Definition if patterns::listed(READABLE_KINDS, word) => StatementClass::Schema,
            StatementClass::Start | StatementClass::Definition => StatementClass::MaybeCredential,
            known => known,
        };
    }

    /// `SET password = hunter2`, where the quotes were forgotten.
    fn assign(&mut self, start: usize, word: &str) {
        if self.statement.assignment == Assignment::Operator && !patterns::listed(HARMLESS_VALUES, word) {
            self.value_at = Some(start);
        }
        let is_sensitive = patterns::is_sensitive(word);
        self.statement.assignment = if is_sensitive { Assignment::Name } else { Assignment::None };
    }

    /// Hides the word after `password =` unless it was a qualifier (`b.password`) or a function (`crypt(…)`).
    fn mask_pending_value(&mut self, next: Option<SqlToken>) {
        if let Some(start) = self.value_at.take()
            && !next.is_some_and(|token| token.is_symbol(".") || token.is_symbol("("))
        {
            self.out.truncate(start);
            self.out.push('?');
        }
    }

    /// Writes `text`, one space before it if asked, and returns where it begins.
    fn push(&mut self, text: &str, space: bool) -> usize {
        if space && !self.out.is_empty() {
            self.out.push(' ');
        }
        let start = self.out.len();
        self.out.push_str(text);
        start
    }

    fn cut(&mut self, space: bool) {
        self.push("…", space);
        self.cut = true;
    }
}

/// An e-mail address somebody forgot to quote.
fn begins_address(token: SqlToken, rest: &str) -> bool {
    let word = |c: char| c.is_ascii_digit() || sql_lexer::starts_identifier(c);
    if !matches!(token.kind, TokenKind::Word | TokenKind::Number) || !rest.starts_with(word) {
        return false;
    }
    let bytes = rest.bytes().take(MAX_LOCAL_PART + 1);
    let local = bytes.take_while(|b| b.is_ascii_alphanumeric() || b"._%+-".contains(b) || *b >= 0x80).count();
    let (before, after) = rest.split_at_checked(local).unwrap_or_default();
    before.ends_with(word) && after.strip_prefix('@').is_some_and(|domain| domain.starts_with(word))
}

/// `10`, `0.5`: too short to be worth hiding.
fn is_short(number: &str) -> bool {
    let digits = number.bytes().filter(u8::is_ascii_digit).count();
    digits <= MAX_SHOWN_DIGITS && number.bytes().all(|b| b.is_ascii_digit() || b == b'.')
}
