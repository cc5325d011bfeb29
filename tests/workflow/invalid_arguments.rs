//! What people type wrongly: a complete line that works, with one argument of it made odd in every way.

use countersign::catalog::{Command, Scope};
use countersign::command_line::{ArgSpec, ArgType};

/// A complete line that works: its arguments in the order of the header.
pub struct Control<'a> {
    pub command: &'a Command,
    pub values: Vec<(&'a ArgSpec, String)>,
}

/// A line that doesn't.
pub struct Odd {
    pub line: String,
    /// One of these has to be in the answer, whatever its case: the odd word, or what is missing.
    pub names: Vec<String>,
    /// What would be right: one of these, or a command to copy, has to be in the answer.
    pub instead: Vec<String>,
}

impl Control<'_> {
    /// Scoped or not: an environment fits every line.
    pub fn line(&self) -> String {
        format!("{} --env staging", self.with(None))
    }

    /// With one argument another, or left out.
    fn with(&self, odd: Option<(&str, Option<&str>)>) -> String {
        let mut line = self.command.name.clone();
        for (spec, value) in &self.values {
            let value = match odd.filter(|(name, _)| *name == spec.name) {
                Some((_, None)) => continue,
                Some((_, Some(value))) => quoted(value),
                None => value.clone(),
            };
            let option = if spec.positional { String::new() } else { format!("--{} ", spec.name) };
            line.push_str(&format!(" {option}{value}"));
        }
        line
    }

    /// All that can be wrong with it.
    pub fn odd(&self) -> Vec<Odd> {
        let mut all = self.of_every_line();
        for (spec, right) in &self.values {
            all.extend(values(spec, right).iter().map(|value| self.other(spec, right, value)));
            if spec.required {
                all.push(self.without(spec, right));
            }
            if !spec.positional {
                let without =
                    format!("{} --env staging --{}", self.with(Some((&spec.name, None))), spec.name);
                all.push(Odd::of(
                    without,
                    &format!("`--{}` needs a value", spec.name),
                    &self.command.usage(),
                ));
                let twice = format!("{} --{} {right}", self.line(), spec.name);
                all.push(Odd::of(twice, &format!("`--{}`", spec.name), "Leave one of them out"));
            }
        }
        all
    }

    fn of_every_line(&self) -> Vec<Odd> {
        let (whole, usage) = (self.line(), self.command.usage());
        let mut all = vec![
            Odd::of(format!("{whole} surplus"), "“surplus”", &usage),
            Odd::of(format!("{whole} --no-such-option 1"), "`--no-such-option`", &usage),
            Odd::of(format!("{whole} --reason"), "`--reason` needs a value", "--reason …"),
            Odd::of(
                format!("{whole} --reason \"it \0hangs\""),
                "“it ” is followed by an invisible character",
                "without it",
            ),
            Odd::of(format!("{whole} --reason \"it hangs"), "“it hangs”", "Close it"),
            Odd::of(format!("{whole} --reason {}", "x".repeat(40 * 1024)), "4000 at most", "--reason"),
            Odd::of(format!("{whole} --env staging"), "`--env`", "Leave one of them out"),
            Odd::of(format!("{} --env \"\"", self.with(None)), "`--env` needs a value", "--env …"),
        ];
        for value in ["mars", "ѕtaging", "staging;DROP", "sta\0ging", "\u{9b}", &"x".repeat(200), "\u{202e}"]
        {
            let line = format!("{} --env {}", self.with(None), quoted(value));
            all.push(told(line, value, vec!["staging".to_owned()]));
        }
        if self.command.header.scope != Scope::None {
            all.push(Odd::of(self.with(None), "Which environment?", "--env staging"));
        }
        all
    }

    /// With another value for one argument.
    fn other(&self, spec: &ArgSpec, right: &str, value: &str) -> Odd {
        let line = format!("{} --env staging", self.with(Some((&spec.name, Some(value)))));
        match (value.trim().is_empty(), spec.positional) {
            (true, true) => Odd::of(line, &format!("<{}>", spec.name), &self.command.usage()),
            (true, false) => {
                Odd::of(line, &format!("`--{}` needs a value", spec.name), &self.command.usage())
            }
            (false, _) => told(line, value, instead(spec, right)),
        }
    }

    /// Without one that it needs: what stands behind it moves up, is taken for it, or leaves the last one missing.
    fn without(&self, spec: &ArgSpec, right: &str) -> Odd {
        let line = format!("{} --env staging", self.with(Some((&spec.name, None))));
        let words: Vec<_> = self.values.iter().filter(|(spec, _)| spec.positional).collect();
        let behind = words.iter().skip_while(|(other, _)| other.name != spec.name).skip(1);
        let moved = behind.take(1).map(|(_, value)| format!("“{value}”"));
        let last = words.iter().rev().take(1).map(|(last, _)| format!("<{}>", last.name));
        let names = moved.chain(last).chain([format!("<{}>", spec.name)]).collect();
        Odd { line, names, instead: vec![self.command.usage(), right.to_owned()] }
    }
}

impl Odd {
    fn of(line: String, names: &str, instead: &str) -> Odd {
        Odd { line, names: vec![names.to_owned()], instead: vec![instead.to_owned()] }
    }
}

/// A line with a word that is named in the answer, unless something is worse.
fn told(line: String, value: &str, right: Vec<String>) -> Odd {
    if line.chars().count() > 4_000 {
        return Odd::of(line, "4000 at most", "--reason");
    }
    if let Some(at) = value.find(|c: char| c.is_control() && !c.is_whitespace()) {
        return Odd::of(
            line,
            &format!("“{}” is followed by an invisible character", &value[..at]),
            "without it",
        );
    }
    // Quoted as far as it is shown, or what there is none of.
    let blank = |c: char| if c.is_whitespace() { ' ' } else { c };
    let text: String = value.chars().map(blank).filter(|c| !c.is_control()).take(40).collect();
    let names = ["“…", "… is no session", "no session … ", "no run #…."].map(|said| said.replace('…', &text));
    Odd { line, names: names.into(), instead: right }
}

/// What is right, or like it: of what there is too much to name it all, an answer names a command that shows it.
fn instead(spec: &ArgSpec, right: &str) -> Vec<String> {
    let like = match spec.kind {
        ArgType::Pid => Some("4711"),
        ArgType::Duration => Some("30s, 5m, 2h or 7d"),
        ArgType::Int => Some("such as 10"),
        ArgType::Service => Some("asset-service"),
        _ => None,
    };
    like.into_iter().chain([right]).map(str::to_owned).collect()
}

/// What no argument of the type can be, with what stands there rightly.
fn values(spec: &ArgSpec, right: &str) -> Vec<String> {
    let of_the_type: &[&str] = match spec.kind {
        ArgType::Service => &["nothing", "asset_service_db"],
        ArgType::Environment => &["mars"],
        ArgType::Pid => &["abc", "0", "-1", "99999999999", "2147483647", "4711.5", "1e3"],
        ArgType::Run => &["abc", "0", "-1", "99999999999999999999", "9223372036854775807", "#", "1.5"],
        ArgType::Duration => &["soon", "0s", "5", "-5m", "99999999d", "1.5h"],
        ArgType::Int => &["lots", "1.5", "99999999999999999999", "0x10"],
        ArgType::Command => &["shoot"],
        ArgType::Choice => &["luck"],
        ArgType::Text => &["no_such_thing", "pg_catalog.pg_class", "\u{202e}stessa", "*"],
    };
    let injections = [
        "x'; DROP TABLE assets; --",
        "$(touch /tmp/x)",
        "../../etc/passwd",
        "\\x00",
        "x\"; SELECT 1; --",
        "%00",
        "'",
    ];
    let mut all: Vec<String> = of_the_type.iter().chain(&injections).map(|word| (*word).to_owned()).collect();
    all.push(look_alike(right));
    let middle = right.char_indices().nth(right.chars().count() / 2).map_or(0, |(at, _)| at);
    let (head, tail) = right.split_at(middle);
    all.extend(["\0", "\u{1b}[2J", "\u{7f}", "\u{9b}"].map(|control| format!("{head}{control}{tail}")));
    all.extend([format!("{head}\u{200b}{tail}"), format!("{right} --env production")]);
    if spec.kind != ArgType::Duration {
        // Between number and unit it is a blank.
        all.push(format!("{head}\n{tail}"));
    }
    all.extend([right.repeat(200 / right.len() + 1), "x".repeat(3_000), "x".repeat(40 * 1024)]);
    all.extend([String::new(), " ".to_owned()]);
    all
}

/// The same to the eye: a letter of another script, or a full-width digit.
fn look_alike(right: &str) -> String {
    let like = |c: char| match c {
        'a' => 'а',
        'e' => 'е',
        'i' => 'і',
        'o' => 'о',
        'p' => 'р',
        's' => 'ѕ',
        '0'..='9' => char::from_u32(u32::from(c) - u32::from('0') + 0xff10).expect("a digit"),
        other => other,
    };
    right.chars().map(like).collect()
}

fn quoted(value: &str) -> String {
    let quote = if value.contains('"') { '\'' } else { '"' };
    format!("{quote}{value}{quote}")
}
