//! Ports of 127.0.0.1 for servers that other programs are told to listen on.

use std::io::{Error, ErrorKind};
use std::net::TcpListener;
use std::sync::atomic::{AtomicU32, Ordering};

/// Below the ports that Linux (32768 and above) and macOS (49152) give to outgoing connections: one of those could take the port of
/// a server while it restarts.
const FIRST: u16 = 18_000;
const COUNT: u16 = 14_000;

/// A port on which nobody listens, and which this process hands out only once in 14,000.
///
/// # Errors
/// All of the ports are taken.
pub fn free_port() -> std::io::Result<u16> {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    // Processes that run at once begin at different ones.
    let first = std::process::id().wrapping_mul(101);
    let candidate = || {
        let number = first.wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed)) % u32::from(COUNT);
        FIRST + u16::try_from(number).unwrap_or_default()
    };
    let is_free = |port: &u16| TcpListener::bind(("127.0.0.1", *port)).is_ok();
    (0..COUNT).map(|_| candidate()).find(is_free).ok_or_else(|| Error::from(ErrorKind::AddrInUse))
}
