//! Signed slash commands as bytes on the wire, made before anything is measured.

use crate::sink::Sink;
use countersign::demo::fake_slack::{SIGNING_SECRET, TEAM};
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

/// In the configuration, and allowed to read and to back up.
pub const ANA: (&str, &str) = ("U0ANA", "ana");
/// Not in the configuration: answered with a refusal.
pub const NOBODY: (&str, &str) = ("U0NOBODY", "nora");

/// Writes requests as Slack does.
pub struct Signer {
    pub channel: String,
    /// Where answers go.
    pub sink: Sink,
    serial: AtomicU64,
}

/// One request: its bytes, and the id in its `response_url`.
pub struct Signed {
    pub bytes: Vec<u8>,
    pub answer: String,
}

impl Signer {
    pub fn new(channel: &str, sink: Sink) -> Signer {
        Signer { channel: channel.to_owned(), sink, serial: AtomicU64::new(1) }
    }

    /// A command that was never sent before. Its signature is good for five minutes.
    pub fn command(&self, (id, name): (&str, &str), text: &str) -> anyhow::Result<Signed> {
        let serial = self.serial.fetch_add(1, Ordering::Relaxed);
        let answer = format!("{serial:032x}");
        let fields = [
            ("token", "demo-verification-token".to_owned()),
            ("team_id", TEAM.to_owned()),
            ("team_domain", "creatorbridge".to_owned()),
            ("channel_id", self.channel.clone()),
            ("channel_name", "incident-42".to_owned()),
            ("user_id", id.to_owned()),
            ("user_name", name.to_owned()),
            ("command", "/db".to_owned()),
            ("text", text.to_owned()),
            ("api_app_id", "A0DEMO001".to_owned()),
            ("is_enterprise_install", "false".to_owned()),
            ("response_url", format!("http://{}/answer/{answer}", self.sink.address)),
            ("trigger_id", format!("{}.738474920.{serial:032x}", 13_345_224_609 + serial)),
        ];
        Ok(Signed { bytes: self.wire(&serde_urlencoded::to_string(fields)?)?, answer })
    }

    /// Slack's look at the certificate: acknowledged, and nothing more.
    pub fn ssl_check(&self) -> anyhow::Result<Vec<u8>> {
        self.wire("ssl_check=1&token=demo-verification-token")
    }

    /// Many such commands.
    pub fn commands(&self, who: (&str, &str), text: &str, many: usize) -> anyhow::Result<Vec<Vec<u8>>> {
        (0..many).map(|_| Ok(self.command(who, text)?.bytes)).collect()
    }

    /// Commands of as many accounts that aren't in the configuration: refusals of one account would share an answer.
    pub fn of_strangers(&self, text: &str, many: usize) -> anyhow::Result<Vec<Vec<u8>>> {
        (0..many).map(|at| Ok(self.command((&format!("U0N{at:06}"), "nora"), text)?.bytes)).collect()
    }

    fn wire(&self, body: &str) -> anyhow::Result<Vec<u8>> {
        let timestamp = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
        let mut mac = Hmac::<Sha256>::new_from_slice(SIGNING_SECRET.as_bytes())?;
        mac.update(format!("v0:{timestamp}:{body}").as_bytes());
        let signature = hex::encode(mac.finalize().into_bytes());
        let length = body.len();
        let request = format!(
            "POST /slack/commands HTTP/1.1\r\nhost: countersign.example\r\nuser-agent: Slackbot 1.0 (+https://api.slack.com/robots)\r\n\
             accept: application/json,*/*\r\ncontent-type: application/x-www-form-urlencoded\r\n\
             x-slack-request-timestamp: {timestamp}\r\nx-slack-signature: v0={signature}\r\ncontent-length: {length}\r\n\r\n{body}"
        );
        Ok(request.into_bytes())
    }
}
