//! Writes a statement again from its tokens, without its data, and decides which unquoted words may hold a
//! secret.
//!
//! Literals are gone before this file sees them. The word lists below only choose how much *more* to hide,
//! or name what is known to be harmless; they are never the reason why a literal is shown.

use super::lexer::{Lexed, Lexer, Token};
use super::patterns;

/// Statements in which a bare word is a name of the schema, never a secret.
const READABLE: &str = "\
    select with insert update delete merge values table explain declare fetch move close prepare execute \
    deallocate call copy truncate vacuum analyze analyse reindex cluster refresh lock begin start commit end \
    rollback abort savepoint release show discard listen unlisten notify checkpoint do drop comment repack \
    autovacuum autoprewarm start_replication identify_system base_backup create_replication_slot \
    drop_replication_slot read_replication_slot timeline_history wait";

/// What CREATE and ALTER may make without a credential in it.
const READABLE_KINDS: &str = "\
    table index view materialized sequence schema type domain extension trigger policy statistics publication";

/// Words between CREATE or ALTER and the kind of object.
const MODIFIERS: &str = "\
    or replace unique temp temporary unlogged global local recursive constraint";

/// What may stand after `password =` without being a password.
const HARMLESS_VALUES: &str = "\
    null default true false any all some case not array row select and or cast excluded";

/// Parameters go up to $65535 (the protocol counts them in 16 bits).
const MAX_PARAM_DIGITS: usize = 5;

/// Numbers with more digits may be a card, a telephone or an account.
const MAX_SHOWN_DIGITS: usize = 3;

/// What is known of the statement so far.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
enum Class {
    /// Nothing read yet.
    #[default]
    Start,
    /// CREATE or ALTER, of something still to come.
    Definition,
    /// Data and maintenance.
    Data,
    /// A definition without credentials.
    Schema,
    /// May carry a credential, or is not known at all.
    Guarded,
}

/// Where an unquoted stretch ends that is shown as one `?`.
#[derive(Clone, Copy, PartialEq, Eq)]
enum StatementEnd {
    Semicolon,
    /// The parenthesis that closes; the number of open ones.
    Closed(usize),
}

/// A name that announces a secret, and the operator after it.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
enum Assignment {
    #[default]
    None,
    Name,
    Operator,
}

/// Whether reading goes on.
#[derive(Clone, Copy, PartialEq, Eq)]
enum StatementFlow {
    On,
    Stop,
}

#[derive(Default)]
struct Statement {
    class: Class,
    saw_set: bool,
    after_options: bool,
    after_connection: bool,
    assignment: Assignment,
}

#[derive(Default)]
struct Writer {
    out: String,
    statement: Statement,
    hiding: Option<StatementEnd>,
    hidden_shown: bool,
    /// Where a word begins that goes unless the next token makes it a qualifier or a function.
    value_at: Option<usize>,
}

pub(super) fn redact(sql: &str) -> String {
    let mut writer = Writer::default();
    for lexed in Lexer::new(sql) {
        if writer.step(lexed) == StatementFlow::Stop {
            break;
        }
    }
    writer.settle_value(None);
    writer.out
}

impl Writer {
    fn step(&mut self, lexed: Lexed) -> StatementFlow {
        if lexed.token == Token::Cut {
            self.settle_value(None);
            return self.cut(lexed.space);
        }
        if self.hides(lexed) {
            return StatementFlow::On;
        }
        self.settle_value(Some(lexed.token));
        if std::mem::take(&mut self.statement.after_connection) && !is_word(lexed.token, "limit") {
            return self.cut(true);
        }
        let opens_options =
            std::mem::take(&mut self.statement.after_options) && lexed.token == Token::Symbol('(');
        if opens_options {
            self.hide(StatementEnd::Closed(1));
        }
        match lexed.token {
            Token::Word(word) => return self.word(word, lexed.space),
            Token::Quoted(raw) => return self.quoted(raw, lexed.space),
            Token::Symbol(symbol) => self.symbol(symbol, lexed.space),
            other => self.value(other, lexed.space),
        }
        StatementFlow::On
    }

    fn value(&mut self, token: Token, space: bool) {
        let shown = match token {
            Token::Number(text) if is_short(text) => text,
            Token::Param(text) if text.len() <= 1 + MAX_PARAM_DIGITS => text,
            Token::Literal => "'?'",
            _ => "?",
        };
        // Text such as `name'…'` would read as a prefixed literal the next time.
        let touches = |c: char| c.is_alphanumeric() || "_$'".contains(c) || !c.is_ascii();
        self.push(shown, space || token == Token::Literal && self.out.ends_with(touches));
        self.statement.assignment = Assignment::None;
    }

    /// Within a hidden stretch: swallows the token, or finds that the stretch has ended with it.
    fn hides(&mut self, lexed: Lexed) -> bool {
        let still = match (self.hiding, lexed.token) {
            (None, _) | (Some(StatementEnd::Semicolon), Token::Symbol(';')) => None,
            (Some(StatementEnd::Closed(1)), Token::Symbol(')')) => None,
            (Some(StatementEnd::Closed(open)), Token::Symbol(')')) => Some(StatementEnd::Closed(open - 1)),
            (Some(StatementEnd::Closed(open)), Token::Symbol('(')) => Some(StatementEnd::Closed(open + 1)),
            (still, _) => still,
        };
        self.hiding = still;
        if still.is_some() && !std::mem::replace(&mut self.hidden_shown, true) {
            self.push("?", lexed.space);
        }
        still.is_some()
    }

    fn hide(&mut self, until: StatementEnd) {
        self.hiding = Some(until);
        self.hidden_shown = false;
    }

    fn word(&mut self, word: &str, space: bool) -> StatementFlow {
        let lower = word.to_ascii_lowercase();
        self.classify(&lower);
        let class = self.statement.class;
        let start = self.push(if patterns::is_issued(word) { "?" } else { word }, space);
        self.statement.after_options = class != Class::Data && lower == "options";
        if matches!(class, Class::Data | Class::Schema) {
            self.assign(start, &lower);
            return StatementFlow::On;
        }
        if patterns::is_sensitive(&lower) {
            return self.cut(true);
        }
        self.statement.after_connection = lower == "connection";
        self.statement.saw_set |= lower == "set";
        if lower == "to" && self.statement.saw_set {
            self.hide(StatementEnd::Semicolon);
        }
        StatementFlow::On
    }

    fn quoted(&mut self, raw: &str, space: bool) -> StatementFlow {
        let inside = patterns::visible(raw);
        let name = if patterns::is_name(inside.trim_start_matches(['u', 'U', '&']).trim_matches('"')) {
            &inside
        } else {
            "\"?\""
        };
        let touches = self.out.ends_with('"');
        let start = self.push(name, space || touches);
        match self.statement.class {
            Class::Data | Class::Schema => self.assign(start, &inside),
            _ if patterns::is_sensitive(&inside) => return self.cut(true),
            _ => {}
        }
        StatementFlow::On
    }

    fn symbol(&mut self, symbol: char, space: bool) {
        self.push(symbol.encode_utf8(&mut [0; 4]), space);
        match symbol {
            ';' => self.statement = Statement::default(),
            '=' if self.statement.saw_set => self.hide(StatementEnd::Semicolon),
            '=' if self.statement.assignment == Assignment::Name => {
                self.statement.assignment = Assignment::Operator
            }
            ':' | '!' | '>' => {}
            _ => self.statement.assignment = Assignment::None,
        }
    }

    /// The first word tells the statement, and the first after CREATE or ALTER that is no modifier tells its
    /// object.
    fn classify(&mut self, word: &str) {
        self.statement.class = match self.statement.class {
            Class::Start if matches!(word, "create" | "alter") => Class::Definition,
            Class::Start if patterns::listed(READABLE, word) => Class::Data,
            Class::Definition if patterns::listed(MODIFIERS, word) => Class::Definition,
            Class::Definition if patterns::listed(READABLE_KINDS, word) => Class::Schema,
            Class::Start | Class::Definition => Class::Guarded,
            known => known,
        };
    }

    /// `SET password = hunter2`, where the quotes were forgotten.
    fn assign(&mut self, start: usize, word: &str) {
        if self.statement.assignment == Assignment::Operator && !patterns::listed(HARMLESS_VALUES, word) {
            self.value_at = Some(start);
        }
        let names = patterns::is_sensitive(word);
        self.statement.assignment = if names { Assignment::Name } else { Assignment::None };
    }

    /// The word after `password =` was a qualifier (`b.password`) or a function (`crypt(…)`), or goes.
    fn settle_value(&mut self, next: Option<Token>) {
        if let Some(start) = self.value_at.take()
            && !matches!(next, Some(Token::Symbol('.' | '(')))
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

    fn cut(&mut self, space: bool) -> StatementFlow {
        self.push("…", space);
        StatementFlow::Stop
    }
}

fn is_word(token: Token, expected: &str) -> bool {
    matches!(token, Token::Word(word) if word.eq_ignore_ascii_case(expected))
}

/// `10`, `0.5`: too short to be worth hiding.
fn is_short(number: &str) -> bool {
    let digits = number.bytes().filter(u8::is_ascii_digit).count();
    digits <= MAX_SHOWN_DIGITS && number.bytes().all(|b| b.is_ascii_digit() || b == b'.')
}
