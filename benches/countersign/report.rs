//! Rounds, medians, Markdown tables, and goals that are met or missed.

/// Interleaved rounds of everything that is compared.
pub const ROUNDS: usize = 5;

/// One number, once a round.
#[derive(Default, Clone)]
pub struct Rounds(Vec<f64>);

impl Rounds {
    pub fn add(&mut self, value: f64) {
        self.0.push(value);
    }

    /// NaN without a round.
    pub fn median(&self) -> f64 {
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        match sorted.len() {
            0 => f64::NAN,
            odd if odd % 2 == 1 => sorted[odd / 2],
            even => f64::midpoint(sorted[even / 2 - 1], sorted[even / 2]),
        }
    }
}

/// The order of a round: A B C, and C B A in the next, so that a machine that slows down slows all.
pub fn in_turn<T>(round: usize, things: impl IntoIterator<Item = T>) -> Vec<T> {
    let mut things: Vec<T> = things.into_iter().collect();
    if round % 2 == 1 {
        things.reverse();
    }
    things
}

/// A Markdown table, its columns aligned for who reads it as text.
pub struct Table {
    head: Vec<String>,
    rows: Vec<Vec<String>>,
}

impl Table {
    pub fn new(head: &[&str]) -> Table {
        Table { head: head.iter().map(|title| (*title).to_owned()).collect(), rows: Vec::new() }
    }

    pub fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        self.rows.push(cells.into_iter().collect());
    }

    /// Writes it to the standard output.
    pub fn print(&self, title: &str) {
        let all = || std::iter::once(&self.head).chain(&self.rows);
        let width = |at: usize| all().filter_map(|row| row.get(at)).map(|cell| cell.chars().count()).max();
        let widths: Vec<usize> = (0..self.head.len()).map(|at| width(at).unwrap_or(0)).collect();
        let line = |row: &Vec<String>| {
            let cells = row.iter().zip(&widths).enumerate().map(|(at, (cell, &width))| match at {
                0 => format!("{cell:<width$}"),
                _ => format!("{cell:>width$}"),
            });
            format!("| {} |", cells.collect::<Vec<_>>().join(" | "))
        };
        let rule = widths.iter().enumerate().map(|(at, &width)| match at {
            0 => "-".repeat(width),
            _ => "-".repeat(width - 1) + ":",
        });
        println!("\n{title}\n\n{}", line(&self.head));
        println!("| {} |", rule.collect::<Vec<_>>().join(" | "));
        self.rows.iter().for_each(|row| println!("{}", line(row)));
    }
}

/// The goals, in the order that they were judged in.
#[derive(Default)]
pub struct Goals {
    judged: Vec<[String; 4]>,
}

impl Goals {
    pub fn at_least(&mut self, what: &str, goal: f64, reached: f64) {
        self.judge(what, (format!("≥ {goal:.2}"), format!("{reached:.2}"), reached >= goal));
    }

    pub fn at_most(&mut self, what: &str, goal: f64, reached: f64) {
        self.judge(what, (format!("≤ {goal:.2}"), format!("{reached:.2}"), reached <= goal));
    }

    fn judge(&mut self, what: &str, (goal, reached, met): (String, String, bool)) {
        let verdict = if met { "met" } else { "**missed**" };
        self.judged.push([what.to_owned(), goal, reached, verdict.to_owned()]);
    }

    pub fn print(&self) {
        let mut table = Table::new(&["Goal", "to reach", "reached", ""]);
        self.judged.iter().for_each(|row| table.row(row.clone()));
        table.print("### Goals");
    }
}

/// Progress, beside the tables.
pub fn tell(what: &str) {
    eprintln!("{what} …");
}
