//! Nobody takes a relay from others: places are shared between addresses, and people at rest cost little. Every
//! address of 127.0.0.0/8 is one of this machine's own, so one process can be several holders.

#![allow(clippy::unwrap_used, reason = "a step of a test that fails says where by panicking")]

use std::time::Duration;

use futures_util::{SinkExt, StreamExt, future};
use serde_json::Value;
use tests::{Offer, Publisher, Relay, Setup, until};
use tokio_tungstenite::{connect_async, tungstenite::Message};

const SOON: Duration = Duration::from_secs(10);

/// A client whose connections come from that address.
fn from(address: [u8; 4]) -> reqwest::Client {
    reqwest::Client::builder().local_address(std::net::IpAddr::from(address)).timeout(SOON).build().unwrap()
}

async fn offer(client: &reqwest::Client, relay: &Relay, offer: &str) -> u16 {
    let url = relay.api().url("/whep/main-stage");
    let request = client.post(url).header("content-type", "application/sdp").body(offer.to_owned());
    request.send().await.unwrap().status().as_u16()
}

#[tokio::test]
async fn one_address_that_never_connects_keeps_no_listener_out() {
    let relay = Setup::zone("stage").start().await.unwrap();
    let _publisher = Publisher::tone(&relay, "main-stage", 440).unwrap();
    let api = relay.api();
    until("the stream is live", SOON, || api.stream("main-stage")).await.unwrap();
    let text = Offer::default().with("a=sendrecv", "a=recvonly").text();
    let greedy = from([127, 0, 0, 9]);
    let full = async |reason: &str| {
        api.metrics().await.unwrap().sum("relay_drop_total", &[("reason", reason)]) > 0.0
    };
    // Until its own offers are refused, or push out its own.
    for count in 0..5000 {
        let status = offer(&greedy, &relay, &text).await;
        if status == 503 || (count % 100 == 0 && full("session_gave_way").await) {
            break;
        }
        assert_eq!(status, 201, "offer {count}");
    }
    // Each from an address of its own, while the greedy one goes on.
    for number in 0..100u8 {
        let status = offer(&from([127, 0, 1, number + 1]), &relay, &text).await;
        assert_eq!(status, 201, "listener {number}");
        offer(&greedy, &relay, &text).await;
    }
    assert!(full("session_gave_way").await, "the greedy one made room");
}

/// What a page does: it reads what is told until it knows that so many are here, and stays.
async fn stays(relay: &Relay, room: &str, present: u64) -> anyhow::Result<impl Sized> {
    let (mut socket, _) = connect_async(format!("ws://{}/api/v1/rooms/{room}/ws", relay.http())).await?;
    let wanted = async {
        while let Some(message) = socket.next().await {
            if let Message::Text(text) = message? {
                let event: Value = serde_json::from_str(&text)?;
                if event["present"].as_u64() == Some(present) {
                    socket.flush().await?;
                    return Ok(());
                }
            }
        }
        anyhow::bail!("the relay hung up")
    };
    tokio::time::timeout(Duration::from_secs(120), wanted).await??;
    Ok(socket)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crowd_that_enters_at_once_stays_and_costs_little() {
    const CROWD: u64 = 400;
    let relay = Setup::zone("stage").start().await.unwrap();
    for number in 0..30 {
        relay.api().say("lobby", "Ada", &format!("{number} {}", "x".repeat(200))).await.unwrap();
    }
    let before = relay.resident_kib().unwrap();
    let all = future::join_all((0..CROWD).map(|_| stays(&relay, "lobby", CROWD))).await;
    let sockets: Vec<_> = all.into_iter().map(|stays| stays.expect("nobody is cut off")).collect();
    let each = relay.resident_kib().unwrap().saturating_sub(before) / CROWD;
    println!("{each} KiB for each of {CROWD}");
    // A large crowd costs 7 to 11 each; a small one carries what all share. A socket
    // with the usual buffers costs 155 and more.
    assert!(each <= 48, "{each} KiB for each participant at rest");
    let dropped = relay.api().metrics().await.unwrap();
    assert_eq!(dropped.sum("relay_drop_total", &[("reason", "participant_too_slow")]), 0.0);
    drop(sockets);
}
