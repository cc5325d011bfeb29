//! Socket Mode: the same requests in envelopes, acknowledged, over connections that come and go.

use crate::wire::Wire;
use countersign::chat::slack::ParsedRequest;
use countersign::chat::slack::socket::Socket;
use serde_json::json;
use tokio::sync::mpsc;

#[tokio::test]
async fn requests_are_handed_on_and_acknowledged_across_reconnections() {
    let (wire, mut acknowledged) = Wire::start().await;
    let command = |id: &str| {
        json!({
            "type": "slash_commands", "envelope_id": id, "accepts_response_payload": true,
            "payload": { "team_id": "T1", "channel_id": "C1", "user_id": "U1", "text": "locks", "trigger_id": id },
        })
    };
    let hello = || json!({ "type": "hello", "num_connections": 1 });
    // Slack moves us on; then the connection breaks; then there are words that can't be read.
    wire.say(vec![hello(), command("e1"), json!({ "type": "disconnect", "reason": "refresh_requested" })]);
    wire.say(vec![hello(), command("e2")]);
    let unknown = json!({ "type": "interactive", "envelope_id": "e3", "payload": { "type": "next_year" } });
    let unreadable = json!({ "type": "events_api", "envelope_id": "e4", "payload": { "no": "type" } });
    wire.say(vec![hello(), json!("not json"), unknown, unreadable, command("e5")]);

    let config = wire.config();
    let socket = Socket::new(&config, config.app_token.as_ref().unwrap()).unwrap();
    let (deliver, mut delivered) = mpsc::unbounded_channel();
    let running = tokio::spawn(async move {
        let deliver = move |parsed| {
            if let ParsedRequest::Deliver(incoming) = parsed {
                let _ = deliver.send(incoming.delivery);
            }
        };
        socket.run(deliver).await;
    });
    for id in ["e1", "e2", "e3", "e4", "e5"] {
        assert_eq!(acknowledged.recv().await.unwrap()["envelope_id"], id);
    }
    for id in ["e1", "e2", "e5"] {
        assert_eq!(delivered.recv().await.unwrap(), format!("slack:cmd:{id}"));
    }
    assert!(wire.asked().iter().all(|asked| asked.authorization.as_deref() == Some("Bearer xapp-1")));
    running.abort();
}
