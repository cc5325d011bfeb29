//! The acknowledgement of `health` while thousands of clients send half a request and nothing more, and the memory that the program
//! takes meanwhile.

use crate::house::{Bot, House, PRODUCTION};
use crate::load::Wire;
use crate::process::Processors;
use crate::report::{Goals, Table, tell};
use crate::requests::ANA;
use anyhow::ensure;
use futures::StreamExt;
use std::net::SocketAddr;
use std::time::{Duration, Instant};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

const HEADS: usize = 5_000;
const BODIES: usize = 3_000;
/// Of the largest body that is read whole.
const HALF_BODY: usize = 128 * 1024;

const MOST_MS: f64 = 1_000.0;
const MOST_MIB: f64 = 200.0;

/// Clients that connect at the same time.
const AT_ONCE: usize = 200;
/// Whoever can't send within this time was sent away, or has to wait for its place.
const PATIENCE: Duration = Duration::from_secs(5);
/// Commands after the last client has come, and the pause between two.
const COMMANDS: usize = 20;
const PAUSE: Duration = Duration::from_millis(100);

pub async fn measure(house: &House, goals: &mut Goals) -> anyhow::Result<()> {
    let head = b"POST /slack/commands HTTP/1.1\r\nhost: x\r\nx-a: ".to_vec();
    let opening =
        format!("POST /slack/commands HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n", HALF_BODY * 2);
    let body = [opening.as_bytes(), &[b'x'; HALF_BODY]].concat();
    let titles = ["Clients that send nothing more", "slowest acknowledgement, ms", "most resident MiB"];
    let mut table = Table::new(&titles);
    for (number, kind, sent) in [(HEADS, "half a head", head), (BODIES, "half a body", body)] {
        tell(&format!("slow, {number} with {kind}"));
        let bot = house.bot(&kind.replace(' ', "-"), Processors::All, "").await?;
        let slowest = slowest_acknowledgement(&bot, number, sent).await?;
        let memory = bot.process.most_resident()?;
        table.row([format!("{number} with {kind}"), format!("{slowest:.0}"), format!("{memory:.1}")]);
        goals.at_most(&format!("ms to acknowledge, {number} with {kind}"), MOST_MS, slowest);
        goals.at_most(&format!("MiB resident, {number} with {kind}"), MOST_MIB, memory);
    }
    table.print("### Slow clients");
    Ok(())
}

/// The slowest of the acknowledgements while the clients come and are there, each over a connection of its own, in milliseconds.
async fn slowest_acknowledgement(bot: &Bot, clients: usize, sent: Vec<u8>) -> anyhow::Result<f64> {
    let coming = tokio::spawn(connect(bot.process.address, clients, sent));
    let (mut slowest, mut remaining) = (0.0_f64, COMMANDS);
    while remaining > 0 {
        if coming.is_finished() {
            remaining -= 1;
        }
        let signed = bot.signer.command(ANA, &format!("health --env {PRODUCTION}"))?;
        let begun = Instant::now();
        let acknowledged =
            tokio::task::block_in_place(|| Wire::connect(bot.process.address)?.ask(&signed.bytes))?;
        ensure!(acknowledged.status == 200 && acknowledged.body.is_empty(), "health was not taken on");
        slowest = slowest.max(begun.elapsed().as_secs_f64() * 1e3);
        tokio::time::sleep(PAUSE).await;
    }
    let connected = coming.await?.len();
    ensure!(
        connected == clients,
        "{connected} of {clients} clients could connect: `ulimit -n` has to allow more files"
    );
    Ok(slowest)
}

async fn connect(address: SocketAddr, clients: usize, sent: Vec<u8>) -> Vec<TcpStream> {
    let client = |_| async {
        let mut stream = TcpStream::connect(address).await.ok()?;
        // Whoever was sent away meanwhile can't send any more.
        let _ = tokio::time::timeout(PATIENCE, stream.write_all(&sent)).await;
        Some(stream)
    };
    let connecting = futures::stream::iter(0..clients).map(client).buffer_unordered(AT_ONCE);
    connecting.filter_map(std::future::ready).collect().await
}
