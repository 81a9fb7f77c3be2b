//! `relay-node pair`: two relays in a field, two people, one code. Owns the connection, the terminal and
//! the files; who is believed when is `membership/pairing.rs`'s.

use std::{
    io::{self, BufRead},
    net::{IpAddr, Ipv4Addr, SocketAddr},
    thread,
    time::Duration,
};

use bytes::Bytes;
use protocol::{NodeId, ZoneName};
use quinn::{Connection, ConnectionError, Endpoint, RecvStream, SendStream, VarInt};
use serde::{Serialize, de::DeserializeOwned};
use thiserror::Error;
use tokio::{
    net::lookup_host,
    sync::mpsc,
    time::{sleep, sleep_until, timeout},
};

use super::festival::{self as organizer, OrganizerError};
use crate::{
    addresses::{Addresses, bridge_addresses},
    bridge::{
        Identity,
        quic::endpoint::{self, Frames, StreamError, read_frame, write_frame},
    },
    clock,
    config::{Config, Pair},
    membership::{
        festival,
        key_file::OrganizerKey,
        pairing::{Code, Failure, Output, Pairing, Side, TRY, Tries},
        trusted_peers,
    },
    storage::atomic_file,
};

/// Two protocols cannot be confused on one port.
const ALPN: &[u8] = b"peddlenet-pairing";
/// Where the other relay waits, unless it is said.
const LISTEN: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 7900);
/// A message, or a token and what stands beside it.
const FRAME_MAX: usize = 16 * 1024;
/// How long the last words may take.
const FAREWELL: Duration = Duration::from_secs(5);
/// Lines typed before anybody asked.
const LINES_MAX: usize = 64;
/// Between two dials of a relay that is not there yet.
const AGAIN: Duration = Duration::from_millis(500);

/// Why nothing came of it.
#[derive(Debug, Error)]
pub enum PairError {
    /// The code, or who was there. Exit code 1.
    #[error("not paired: {0}")]
    Failed(#[from] Failure),
    /// The connection. Exit code 1.
    #[error("not paired: {0}")]
    Connection(String),
    /// The key file. Exit code 64.
    #[error("{0}")]
    Organizer(#[from] OrganizerError),
    /// A port, or the data directory. Exit code 69.
    #[error("{0}")]
    Unavailable(String),
}

impl PairError {
    /// The exit code of the contract.
    pub fn exit_code(&self) -> u8 {
        match self {
            PairError::Failed(_) | PairError::Connection(_) => 1,
            PairError::Organizer(error) => error.exit_code(),
            PairError::Unavailable(_) => 69,
        }
    }
}

/// Pairs this relay with another one, once.
///
/// # Errors
///
/// [`PairError::Organizer`] if the key file is not good, [`PairError::Unavailable`] without a port, a data
/// directory or a runtime, [`PairError::Connection`] if the other relay cannot be reached or goes away,
/// [`PairError::Failed`] if either side breaks it off.
pub fn run(pair: &Pair, config: &Config) -> Result<(), PairError> {
    let key = pair.festival_key_file.as_deref().map(organizer::read_key).transpose()?;
    let identity = Identity::load_or_create(&config.data).map_err(unavailable)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(unavailable)?;
    let paired = runtime.block_on(async {
        let terminal = Terminal { pair, config, key, own: identity.node_id(), keyboard: keyboard() };
        let (endpoint, paired) = match &pair.peer {
            Some(peer) => {
                let endpoint = dialing(&identity)?;
                let paired = terminal.dial(&endpoint, peer).await;
                (endpoint, paired)
            }
            None => {
                let address = pair.listen.unwrap_or(LISTEN);
                let endpoint = endpoint::endpoint(&identity, ALPN, address)
                    .map_err(|error| PairError::Unavailable(format!("cannot use {address}: {error}")))?;
                let paired = terminal.listen(&endpoint).await;
                (endpoint, paired)
            }
        };
        let _ = timeout(FAREWELL, endpoint.wait_idle()).await;
        paired
    });
    // Whoever waits for a line that nobody types is left behind.
    runtime.shutdown_background();
    paired
}

/// On any port; a machine may be without IPv6.
fn dialing(identity: &Identity) -> Result<Endpoint, PairError> {
    let any = [SocketAddr::from(([0_u16; 8], 0)), SocketAddr::from(([0_u8; 4], 0))];
    let mut last = None;
    for address in any {
        match endpoint::endpoint(identity, ALPN, address) {
            Ok(endpoint) => return Ok(endpoint),
            Err(error) => last = Some(error),
        }
    }
    Err(PairError::Unavailable(format!("cannot open a UDP port: {}", last.expect("two were tried"))))
}

/// The keyboard and the files of one relay.
struct Terminal<'a> {
    pair: &'a Pair,
    config: &'a Config,
    key: Option<OrganizerKey>,
    own: NodeId,
    keyboard: mpsc::Receiver<String>,
}

/// What the other side says, frame after frame, and the way to answer.
struct Line {
    connection: Connection,
    send: SendStream,
    frames: mpsc::Receiver<Result<Bytes, StreamError>>,
}

impl Line {
    fn new(connection: Connection, (send, mut receive): (SendStream, RecvStream)) -> Line {
        let (sender, frames) = mpsc::channel(1);
        // A frame that is read by halves cannot be put aside, so nothing else is waited for meanwhile.
        tokio::spawn(async move {
            let mut frames = Frames::new(FRAME_MAX);
            loop {
                let frame = read_frame(&mut receive, &mut frames).await;
                let last = frame.is_err();
                if sender.send(frame).await.is_err() || last {
                    return;
                }
            }
        });
        Line { connection, send, frames }
    }

    async fn say<T: Serialize>(&mut self, word: &T) -> Result<(), PairError> {
        let frame = postcard::to_stdvec(word).expect("names, numbers and texts always serialize");
        write_frame(&mut self.send, frame.into()).await.map_err(lost)
    }

    async fn hear<T: DeserializeOwned>(&mut self) -> Result<T, PairError> {
        match self.frames.recv().await {
            Some(Ok(frame)) => postcard::from_bytes(&frame).map_err(|_| Failure::OutOfTurn.into()),
            Some(Err(error)) => Err(lost(error)),
            None => Err(PairError::Connection("the other side is gone".to_owned())),
        }
    }

    /// Ends it so that what was said last arrives.
    async fn end(mut self, reason: &str) {
        let _ = self.send.finish();
        let _ = timeout(FAREWELL, self.send.stopped()).await;
        self.connection.close(VarInt::from_u32(0), reason.as_bytes());
    }
}

impl Terminal<'_> {
    async fn dial(mut self, endpoint: &Endpoint, peer: &str) -> Result<(), PairError> {
        eprintln!("Looking for a relay that waits at {peer} ...");
        let give_up = clock::now() + TRY;
        let connection = loop {
            match connect(endpoint, peer).await {
                Ok(connection) => break connection,
                Err(error) if clock::now() >= give_up => return Err(error),
                Err(_) => sleep(AGAIN).await,
            }
        };
        let streams = connection.open_bi().await.map_err(lost)?;
        let (line, partner) = self.converse(Side::Dialer, Line::new(connection, streams)).await?;
        self.keep(line, partner).await
    }

    async fn listen(mut self, endpoint: &Endpoint) -> Result<(), PairError> {
        let bound = endpoint.local_addr().map_err(unavailable)?;
        eprintln!("Waiting for the other relay. There, type one of:");
        for place in bridge_addresses(bound).unwrap_or_else(|_| vec![bound]) {
            eprintln!("  relay-node pair --peer {place}");
        }
        let mut tries = Tries::default();
        while let Some(incoming) = endpoint.accept().await {
            if !tries.take(clock::now()) {
                incoming.refuse();
                continue;
            }
            let remote = incoming.remote_address();
            let met = timeout(FAREWELL, async {
                let connection = incoming.await?;
                let streams = connection.accept_bi().await?;
                Ok::<_, ConnectionError>(Line::new(connection, streams))
            });
            let outcome = match met.await {
                Ok(Ok(line)) => self.converse(Side::Listener, line).await,
                Ok(Err(error)) => Err(lost(error)),
                Err(_) => Err(PairError::Connection("it said nothing".to_owned())),
            };
            match outcome {
                Ok((line, partner)) => return self.keep(line, partner).await,
                // Somebody looked and saw that something is wrong: that is not tried until it fits.
                Err(PairError::Failed(
                    failure @ (Failure::Different | Failure::NotThere | Failure::Broken),
                )) => return Err(failure.into()),
                Err(error) => eprintln!("{remote}: {error}. Still waiting."),
            }
        }
        Err(PairError::Connection("the port was closed".to_owned()))
    }

    /// From the first word to the word of both people.
    async fn converse(
        &mut self,
        side: Side,
        mut line: Line,
    ) -> Result<(Line, (NodeId, ZoneName)), PairError> {
        let node = endpoint::neighbor_of(&line.connection)
            .ok_or_else(|| PairError::Connection("the other side showed no key".to_owned()))?;
        let own = (self.own, self.config.zone.clone());
        let mut pairing = Pairing::new(side, own, node, rand::random(), clock::now());
        let mut asked = None;
        loop {
            while let Some(output) = pairing.poll_output() {
                match output {
                    Output::Send(message) => line.say(&message).await?,
                    Output::Show(code, zone) => {
                        let word = self.word_given(code);
                        if word.is_none() {
                            // What was typed before the code is shown is no answer to it.
                            while self.keyboard.try_recv().is_ok() {}
                            asked = Some(code);
                        }
                        println!("{code}");
                        let at = line.connection.remote_address().ip().to_canonical();
                        eprintln!("That is the code for {zone} at {at} ({}).", node.short());
                        match word {
                            Some(same) => pairing.handle_verdict(same),
                            None => {
                                eprintln!("Does the other screen show the same? Type y or n, or its code:");
                            }
                        }
                    }
                    Output::Paired(zone) => return Ok((line, (node, zone))),
                    Output::Failed(failure) => {
                        line.end(&failure.to_string()).await;
                        return Err(failure.into());
                    }
                }
            }
            let end = pairing.poll_timeout().unwrap_or_else(clock::now);
            tokio::select! {
                message = line.hear() => pairing.handle_message(message?),
                same = typed(&mut self.keyboard, asked) => {
                    asked = None;
                    pairing.handle_verdict(same);
                }
                () = sleep_until(end.into()) => pairing.handle_timeout(clock::now()),
            }
        }
    }

    /// What the operator said of the code before it was known.
    fn word_given(&self, code: Code) -> Option<bool> {
        if self.pair.yes {
            return Some(true);
        }
        self.pair.code.map(|given| given == code)
    }

    /// Both people said yes: each relay trusts the other from now on, and a token goes where none is.
    async fn keep(self, mut line: Line, (node, zone): (NodeId, ZoneName)) -> Result<(), PairError> {
        let data = &self.config.data;
        trusted_peers::add(data, node, &zone).map_err(unavailable)?;
        let gift = match &self.key {
            Some(key) => Some(self.issue(key, node, &zone)?),
            None => None,
        };
        line.say(&gift).await?;
        let given = timeout(FAREWELL, line.hear::<Option<String>>()).await;
        line.end("paired").await;
        println!("paired with {zone} {node}");
        if gift.is_some() {
            eprintln!("It got a zone token for {} days.", self.pair.days);
        }
        match given {
            Ok(Ok(Some(text))) if self.key.is_none() => self.take(&text)?,
            Ok(Ok(_)) => {}
            // Both people said yes, so the relays are paired; but the other one may not know it.
            _ => eprintln!("The other relay said no last word: look whether it says that it is paired."),
        }
        let running = Addresses::read(data).is_ok();
        let when = if running { "once the relay is started again" } else { "when the relay starts" };
        eprintln!("It is named in {} and may bridge {when}.", data.join(trusted_peers::FILE).display());
        Ok(())
    }

    /// A token for the other relay; and one for this one, which is to be of the same festival.
    fn issue(&self, key: &OrganizerKey, node: NodeId, zone: &ZoneName) -> Result<String, PairError> {
        let now = clock::wall().0 / 1000;
        if self.config.festival.is_none() {
            let (text, _) = organizer::issue(key, self.own, &self.config.zone, self.pair.days, now)?;
            self.write_token(&text)?;
        }
        Ok(organizer::issue(key, node, zone, self.pair.days, now)?.0)
    }

    /// The organizer's word comes over a connection that two people have confirmed; it still has to be one.
    fn take(&self, text: &str) -> Result<(), PairError> {
        let zone = &self.config.zone;
        match festival::token_for(text, self.own, zone) {
            Ok(id) => {
                self.write_token(text)?;
                eprintln!("This relay got a zone token of the festival {id} for {zone}.");
            }
            Err(error) => eprintln!("The zone token that came is of no use: {error}"),
        }
        Ok(())
    }

    fn write_token(&self, text: &str) -> Result<(), PairError> {
        atomic_file::write(&self.config.data.join(festival::TOKEN), text.as_bytes(), atomic_file::PUBLIC)
            .map_err(unavailable)
    }
}

/// The lines that the person types. Nobody can be made to type: the thread waits until the process ends.
fn keyboard() -> mpsc::Receiver<String> {
    let (sender, lines) = mpsc::channel(LINES_MAX);
    thread::spawn(move || {
        for line in io::stdin().lock().lines().map_while(Result::ok) {
            if sender.blocking_send(line).is_err() {
                return;
            }
        }
    });
    lines
}

/// What the person says of the code; for ever if nobody was asked.
async fn typed(keyboard: &mut mpsc::Receiver<String>, asked: Option<Code>) -> bool {
    let Some(code) = asked else { return std::future::pending().await };
    while let Some(line) = keyboard.recv().await {
        let line = line.trim().to_ascii_lowercase();
        match (line.as_str(), line.parse::<Code>()) {
            ("y" | "yes", _) => return true,
            ("n" | "no", _) => return false,
            (_, Ok(typed)) => return typed == code,
            _ => eprintln!("Type y if both screens show {code}, or n:"),
        }
    }
    // Nobody is there to be asked.
    false
}

async fn connect(endpoint: &Endpoint, peer: &str) -> Result<Connection, PairError> {
    let failed = |error: &dyn std::fmt::Display| PairError::Connection(format!("{peer}: {error}"));
    let own_v6 = endpoint.local_addr().is_ok_and(|own| own.is_ipv6());
    let mut last = PairError::Connection(format!("{peer} has no address this machine can reach"));
    let addresses = lookup_host(peer).await.map_err(|error| failed(&error))?;
    for address in addresses.filter(|address| own_v6 || address.is_ipv4()) {
        let connecting = endpoint.connect(address, "relay").map_err(|error| failed(&error))?;
        match timeout(FAREWELL, connecting).await {
            Ok(Ok(connection)) => return Ok(connection),
            Ok(Err(error)) => last = failed(&error),
            Err(_) => last = failed(&"no answer"),
        }
    }
    Err(last)
}

fn lost(error: impl std::fmt::Display) -> PairError {
    PairError::Connection(error.to_string())
}

fn unavailable(error: impl std::fmt::Display) -> PairError {
    PairError::Unavailable(error.to_string())
}
