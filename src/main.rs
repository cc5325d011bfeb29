//! The command line.

use anyhow::Context;
use clap::{Parser, Subcommand};
use countersign::{config::Config, demo::run::Demo, http::Server};
use std::net::SocketAddr;
use std::path::PathBuf;

/// Runs a team's PostgreSQL runbook from chat; what destroys waits for a second person.
#[derive(Parser)]
#[command(version)]
struct Cli {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// Serve the chat.
    Serve {
        #[arg(long, default_value = "countersign.toml")]
        config: PathBuf,
    },
    /// Try it in a browser: a pretend Slack, two PostgreSQL servers, an incident. Nothing to set up, nothing left behind.
    Demo {
        #[arg(long, default_value = "127.0.0.1:8055")]
        page: SocketAddr,
    },
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let filter = tracing_subscriber::EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| "warn,countersign=info".into());
    tracing_subscriber::fmt().json().with_env_filter(filter).with_writer(std::io::stderr).init();
    let stop = async { drop(tokio::signal::ctrl_c().await) };
    match Cli::parse().what {
        What::Serve { config } => {
            let config = Config::load(&config, &|name| std::env::var(name).ok());
            let server = Server::bind(config.context("reading the configuration")?).await?;
            server.serve(stop).await
        }
        What::Demo { page } => {
            let demo = Demo::start(page, 1).await?;
            println!("Countersign's demo is at {}  (Ctrl-C ends it)", demo.page);
            stop.await;
            Ok(())
        }
    }
}
