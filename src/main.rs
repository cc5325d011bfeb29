//! The command line.

use anyhow::Context;
use clap::Parser;
use countersign::{catalog::Catalog, config::Config, demo::run::Demo, http::Server};
use std::{net::SocketAddr, path::PathBuf};

/// Runs a team's PostgreSQL runbook from chat; what destroys waits for a second person.
#[derive(Parser)]
#[command(version)]
enum Cli {
    /// Serve the chat.
    Serve {
        #[arg(long, default_value = "countersign.toml")]
        config: PathBuf,
    },
    /// Try it in a browser: a pretend Slack, two PostgreSQL servers, an incident. Nothing is left behind.
    Demo {
        #[arg(long, default_value = "127.0.0.1:8055")]
        page: SocketAddr,
    },
    /// Print the table of commands, as the README has it.
    Commands,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    countersign::start_logging();
    match Cli::parse() {
        Cli::Serve { config } => {
            let config = Config::load(&config, &|name| std::env::var(name).ok()).context("configuring")?;
            Server::bind(config).await?.serve(countersign::interrupted()).await
        }
        Cli::Demo { page } => Demo::show(page).await,
        Cli::Commands => {
            print!("{}", Catalog::built_in().map_err(countersign::in_lines)?.markdown());
            Ok(())
        }
    }
}
