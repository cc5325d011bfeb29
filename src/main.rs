//! The command line's entrance; what it understands stands in `cli`.

#[tokio::main]
async fn main() -> std::process::ExitCode {
    countersign::cli::run(&|name| std::env::var(name).ok()).await
}
