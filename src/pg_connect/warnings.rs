//! PostgreSQL's warnings on a connection: part of the result of a statement such as VACUUM.

use super::server_message;
use parking_lot::Mutex;
use std::sync::Arc;
use tokio_postgres::error::{DbError, Severity};

/// More than this is not kept: a statement that warns of every row would fill the memory.
const MAX_WARNINGS: usize = 200;

/// PostgreSQL's warnings on one connection, oldest first.
#[derive(Debug, Clone, Default)]
pub struct Warnings(Arc<Mutex<Vec<String>>>);

impl Warnings {
    /// Keeps a notice if it warns.
    pub(super) fn record(&self, notice: &DbError) {
        let mut warnings = self.0.lock();
        // The other severity is in the server's own language (lc_messages).
        if notice.parsed_severity() == Some(Severity::Warning) && warnings.len() < MAX_WARNINGS {
            warnings.push(server_message::warning_text(notice));
        }
    }

    /// Returns the warnings since the last call.
    pub fn take(&self) -> Vec<String> {
        std::mem::take(&mut *self.0.lock())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::future::poll_fn;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio_postgres::{AsyncMessage, Config, NoTls};

    /// A message of PostgreSQL's protocol.
    fn message(kind: u8, body: &[u8]) -> Vec<u8> {
        let length = u32::try_from(body.len() + 4).unwrap().to_be_bytes();
        [&[kind][..], &length, body].concat()
    }

    /// A notice as a server says it in its own language, and as programs read it.
    fn notice(said: &str, severity: &str, text: &str) -> Vec<u8> {
        message(b'N', format!("S{said}\0V{severity}\0C01000\0M{text}\0\0").as_bytes())
    }

    #[tokio::test]
    async fn a_warning_is_heard_in_every_language() {
        let (ours, mut server) = tokio::io::duplex(4096);
        let (welcome, ready) = (message(b'R', &0_u32.to_be_bytes()), message(b'Z', b"I"));
        let notices = [
            notice("WARNUNG", "WARNING", "keine Berechtigung, um »assets« zu vacuumen"),
            notice("HINWEIS", "NOTICE", "Tabelle existiert nicht, wird übersprungen"),
        ];
        let startup_reply = [welcome, ready, notices.concat()].concat();
        let serving = tokio::spawn(async move {
            let mut startup = [0; 512];
            assert!(server.read(&mut startup).await.unwrap() > 0);
            server.write_all(&startup_reply).await.unwrap();
        });
        let (_client, mut connection) = Config::new().user("x").connect_raw(ours, NoTls).await.unwrap();
        let warnings = Warnings::default();
        while let Some(Ok(message)) = poll_fn(|context| connection.poll_message(context)).await {
            if let AsyncMessage::Notice(notice) = message {
                warnings.record(&notice);
            }
        }
        serving.await.unwrap();
        assert_eq!(warnings.take(), ["keine Berechtigung, um »?« zu vacuumen"]);
    }
}
