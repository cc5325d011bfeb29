//! Replies for every platform's tests: one in full, parts to make others of, and any at all.

use countersign::model::*;
use proptest::prelude::*;

pub fn person(id: &str) -> Person {
    Person { id: id.to_owned(), account: Some("U1".to_owned()) }
}

pub fn heading() -> Heading {
    Heading {
        requester: Some(person("ana")),
        command: "kill 4711".to_owned(),
        environment: Some(EnvironmentTag { name: "production".to_owned(), production: true }),
        run: Some(128),
    }
}

pub fn reply(block: Block) -> Reply {
    Reply::new(heading()).with(block)
}

pub fn table(rows: usize) -> Table {
    let column = |title: &str, kind| Column { title: title.to_owned(), kind };
    let row = |n: usize| Row {
        cells: vec![
            Cell::from(n.to_string()),
            Cell { text: "12 min".to_owned(), severity: Severity::Warning },
            Cell::from(""),
            Cell::from(format!("select {n} from asset")),
        ],
        buttons: vec![Button::new(format!("kill {n}"), format!("{n:032x}"), ButtonStyle::Danger)],
    };
    Table {
        title: Some("Waiting".to_owned()),
        columns: vec![
            column("pid", ColumnKind::Right),
            column("waits", ColumnKind::Right),
            column("user", ColumnKind::Left),
            column("query", ColumnKind::Query),
        ],
        rows: (1..=rows).map(row).collect(),
        total: rows,
        empty: Some("No session waits.".to_owned()),
    }
}

pub fn verdict(severity: Severity, words: &str) -> Block {
    Block::Verdict { severity, text: Text::from(words) }
}

pub fn code(text: &str) -> Block {
    Block::Code { title: None, text: text.to_owned() }
}

/// One of every kind of block.
pub fn an_answer_in_full() -> Reply {
    reply(verdict(Severity::Warning, "1 session waits."))
        .with(Block::Facts(vec![
            ("server".to_owned(), Text::from("pg-1")),
            ("undo".to_owned(), Text::new().code("/db undo <1>")),
        ]))
        .with(Block::Table(table(1)))
        .with(Block::Progress { percent: Some(48), label: "2 min left".to_owned() })
        .with(Block::Note(Text::from("As of 12:00 UTC")))
}

/// A request that waits for a second person: ben or cleo, whose account on the platform this is; dan has none there.
pub fn a_request(account: &str) -> Reply {
    let known = |id: &str| Person { id: id.to_owned(), account: Some(account.to_owned()) };
    let dan = Person { id: "dan".to_owned(), account: None };
    let waits = Text::new().plain("Needs approval from ").ping(&known("ben")).plain(", ");
    let waits = waits.ping(&known("cleo")).plain(" or ").ping(&dan).plain(" within 30 min (02:30 UTC).");
    let harm = Text::new().strong("Impact: ").plain("its transaction of 14 min is rolled back.\n");
    let facts = Text::new().plain("server ").code("pg-core-1").plain(" · pid ").code("4711");
    let facts = facts.plain("\n").strong("frees ").plain("6 sessions wait behind it");
    let query = "UPDATE assets\n   SET \"updatedAt\" = now()\n WHERE id IN ('?')";
    let button = |(label, number, style): (&str, u8, ButtonStyle), visible_to: Vec<Person>| Button {
        visible_to,
        ..Button::new(label, format!("{number:032x}"), style)
    };
    let deciding = vec![known("ben"), known("cleo"), dan.clone()];
    let mut reply = reply(Block::Verdict { severity: Severity::Warning, text: waits })
        .with(Block::Text(Text::new().strong("Reason: ").plain("blocks the deploy")))
        .with(Block::Text(Text::new().strong("Ends the session of asset-worker-1 on asset_service_db.")))
        .with(Block::Text(harm.strong("Rollback: ").plain("nothing can.")))
        .with(Block::Text(facts))
        .with(Block::Code { title: Some("Its last statement".to_owned()), text: query.to_owned() })
        .with(Block::Note("Runs only if it is still this very session.".into()))
        .with(Block::Text(
            Text::new().strong("PRODUCTION").plain(" · ").code("kill 4711").plain(" · plan 1f3a"),
        ))
        .with(Block::Buttons(vec![
            button(("Approve", 1, ButtonStyle::Primary), deciding.clone()),
            button(("Deny", 2, ButtonStyle::Danger), deciding),
            button(("Withdraw", 3, ButtonStyle::Plain), vec![known("ana")]),
        ]));
    reply.indivisible = true;
    reply
}

/// Who waits for whom: a tree in a table too wide for a phone, and a button on its head.
pub fn a_lock_tree() -> Reply {
    let column = |title: &str, kind| Column { title: title.to_owned(), kind };
    let row = |cells: [&str; 6], severity, buttons: Vec<Button>| {
        let mut cells: Vec<Cell> = cells.into_iter().map(Cell::from).collect();
        cells[4].severity = severity;
        Row { cells, buttons }
    };
    let kill = Button::new("Kill 4711…", format!("{:032x}", 1), ButtonStyle::Danger);
    let waiting = [
        "└ 4720",
        "asset-api",
        "asset_service_db",
        "wants AccessExclusiveLock",
        "12 min",
        "ALTER TABLE assets ADD COLUMN \"reviewedAt\" timestamp(3)",
    ];
    let table = Table {
        title: None,
        columns: vec![
            column("session", ColumnKind::Left),
            column("app", ColumnKind::Left),
            column("database", ColumnKind::Left),
            column("state", ColumnKind::Left),
            column("for", ColumnKind::Right),
            column("query", ColumnKind::Query),
        ],
        rows: vec![
            row(
                [
                    "4711",
                    "asset-worker-1",
                    "asset_service_db",
                    "idle in transaction",
                    "14 min",
                    "UPDATE assets SET \"updatedAt\" = now()",
                ],
                Severity::Critical,
                vec![kill],
            ),
            row(waiting, Severity::Warning, Vec::new()),
            row(
                ["│ └ 4731", "asset-api", "asset_service_db", "wants AccessShareLock", "11 min", ""],
                Severity::Warning,
                Vec::new(),
            ),
        ],
        total: 3,
        empty: None,
    };
    reply(verdict(
        Severity::Critical,
        "2 sessions wait; pid 4711 (asset-worker-1) of asset_service_db holds them up.",
    ))
    .with(Block::Table(table))
    .with(Block::Text(Text::new().plain("End the head to free them: ").code("kill 4711")))
}

fn any_string() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => "[ -~]{0,30}",
        2 => "\\PC{0,20}",
        1 => any::<String>(),
        1 => ("\\PC{1,8}", 1usize..500).prop_map(|(text, times)| text.repeat(times)),
        1 => proptest::sample::select(vec!["", " ", "<!channel>", "`", "<@U1>", "*bold*", "&&&&", "👩‍💻🇩🇪", "\u{301}", "\u{1b}[2J\n\u{9b}\t\u{202e}"])
            .prop_map(str::to_owned),
    ]
}

fn any_text() -> impl Strategy<Value = Text> {
    let span = (any_string(), 0..4u8).prop_map(|(text, kind)| match kind {
        0 => Span::Plain(text),
        1 => Span::Strong(text),
        2 => Span::Code(text),
        _ => Span::Person(person(&text)),
    });
    proptest::collection::vec(span, 0..4).prop_map(Text)
}

fn any_buttons(most: usize) -> impl Strategy<Value = Vec<Button>> {
    let who = proptest::sample::select(vec![Vec::new(), vec![person("ben")]]);
    let button = (any_string(), "[a-f0-9]{0,32}", who).prop_map(|(label, token, who)| Button {
        visible_to: who,
        ..Button::new(label, token, ButtonStyle::Danger)
    });
    proptest::collection::vec(button, 0..most)
}

fn any_table() -> impl Strategy<Value = Table> {
    let kind = proptest::sample::select(vec![ColumnKind::Left, ColumnKind::Right, ColumnKind::Query]);
    let columns = proptest::collection::vec((any_string(), kind), 0..25);
    let cell = (any_string(), any::<bool>()).prop_map(|(text, act)| Cell {
        text,
        severity: if act { Severity::Critical } else { Severity::Neutral },
    });
    let row = (proptest::collection::vec(cell, 0..6), any_buttons(3))
        .prop_map(|(cells, buttons)| Row { cells, buttons });
    let rows = (proptest::collection::vec(row, 0..4), 1usize..120);
    (columns, rows, proptest::option::of(any_string()), 0usize..1_000).prop_map(
        |(columns, rows, title, total)| Table {
            empty: title.clone(),
            title,
            columns: columns.into_iter().map(|(title, kind)| Column { title, kind }).collect(),
            rows: std::iter::repeat_n(rows.0, rows.1).flatten().collect(),
            total,
        },
    )
}

/// A link of the configuration's.
pub fn link(label: &str) -> Link {
    let url = LinkUrl::parse("https://grafana.example/d/postgres?var-service=asset-service");
    Link { label: label.to_owned(), url: url.expect("an address") }
}

fn any_block() -> impl Strategy<Value = Block> {
    let severity = proptest::sample::select(vec![
        Severity::Neutral,
        Severity::Ok,
        Severity::Warning,
        Severity::Critical,
    ]);
    prop_oneof![
        (severity, any_text()).prop_map(|(severity, text)| Block::Verdict { severity, text }),
        any_text().prop_map(Block::Text),
        (proptest::collection::vec((any_string(), any_text()), 0..4), 1usize..80)
            .prop_map(|(facts, times)| Block::Facts(std::iter::repeat_n(facts, times).flatten().collect())),
        any_table().prop_map(Block::Table),
        (proptest::option::of(any_string()), any_string())
            .prop_map(|(title, text)| Block::Code { title, text }),
        (proptest::option::of(any::<u8>()), any_string())
            .prop_map(|(percent, label)| Block::Progress { percent, label }),
        any_buttons(60).prop_map(Block::Buttons),
        (any_string(), 1usize..30).prop_map(|(label, times)| Block::Links(vec![link(&label); times])),
        any_text().prop_map(Block::Note),
    ]
}

pub fn any_reply() -> impl Strategy<Value = Reply> {
    let blocks = prop_oneof![
        4 => proptest::collection::vec(any_block(), 0..8),
        1 => (any_block(), 1usize..130).prop_map(|(block, times)| vec![block; times]),
    ];
    (any_string(), any_string(), blocks).prop_map(|(who, asked, blocks)| {
        let environment = EnvironmentTag { name: who.clone(), production: true };
        let heading = Heading {
            requester: Some(person(&who)),
            command: asked,
            environment: Some(environment),
            run: Some(1),
        };
        Reply { blocks, ..Reply::new(heading) }
    })
}
