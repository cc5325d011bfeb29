//! Entry point of the command line, which `cli` parses.

/// An answer is made of many small texts, and glibc's allocator takes a tenth of the time that an acknowledgement has.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[tokio::main]
async fn main() -> std::process::ExitCode {
    countersign::cli::run(&|name| std::env::var(name).ok()).await
}
