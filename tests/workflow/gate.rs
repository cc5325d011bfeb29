//! A gate in front of a server: from the first message with certain words on, it lets nothing of that connection through until it is
//! opened. So a process stands still between two of its steps, without a hook in the program.

use crate::harness::found;
use std::sync::{Arc, Mutex};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// Every message has this word.
const ANY_MESSAGE: &str = "";

#[derive(Default)]
struct GateState {
    /// The words of messages that are held.
    words: Mutex<Vec<&'static str>>,
    /// The held messages' words, in the order of their arrival.
    held: Mutex<Vec<&'static str>>,
}

pub struct Gate {
    pub port: u16,
    state: Arc<GateState>,
    is_open: watch::Sender<bool>,
}

impl Gate {
    /// An open gate before the server with that port.
    pub async fn before(server: u16) -> Gate {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = listener.local_addr().expect("its address").port();
        let (is_open, open) = watch::channel(true);
        let state = Arc::new(GateState::default());
        let shared = Arc::clone(&state);
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let Ok(server) = TcpStream::connect(("127.0.0.1", server)).await else { continue };
                let ((from_client, to_client), (from_server, to_server)) =
                    (client.into_split(), server.into_split());
                tokio::spawn(forward(from_client, to_server, Arc::clone(&shared), open.clone()));
                tokio::spawn(answer(from_server, to_client));
            }
        });
        Gate { port, state, is_open }
    }

    /// Holds every connection from its next message with one of these words on.
    pub fn close(&self, words: Vec<&'static str>) {
        *self.state.words.lock().unwrap() = words;
        self.is_open.send_replace(false);
    }

    /// Holds every connection from its next message on.
    pub fn pause(&self) {
        self.close(vec![ANY_MESSAGE]);
    }

    /// Lets everything through.
    pub fn open(&self) {
        self.state.words.lock().unwrap().clear();
        self.state.held.lock().unwrap().clear();
        self.is_open.send_replace(true);
    }

    /// Waits until so many connections are held.
    pub async fn holds(&self, connections: usize) {
        found(&format!("{connections} connections at the gate"), async || {
            (self.state.held.lock().unwrap().len() >= connections).then_some(())
        })
        .await;
    }
}

async fn forward(
    mut client: OwnedReadHalf,
    mut server: OwnedWriteHalf,
    state: Arc<GateState>,
    mut open: watch::Receiver<bool>,
) {
    let mut message = vec![0; 65_536];
    while let Ok(count @ 1..) = client.read(&mut message).await {
        let has = |word: &str| {
            word == ANY_MESSAGE || message[..count].windows(word.len()).any(|part| part == word.as_bytes())
        };
        let held = state.words.lock().unwrap().iter().copied().find(|word| has(word));
        if let Some(word) = held {
            state.held.lock().unwrap().push(word);
            if open.wait_for(|is_open| *is_open).await.is_err() {
                return;
            }
        }
        if server.write_all(&message[..count]).await.is_err() {
            return;
        }
    }
}

async fn answer(mut server: OwnedReadHalf, mut client: OwnedWriteHalf) {
    let _ = tokio::io::copy(&mut server, &mut client).await;
}
