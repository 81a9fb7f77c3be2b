//! `relay-node festival`: what the organizer does, offline, with the key file. Answers for scripts go to
//! standard output, words for people to standard error.

use std::{
    collections::BTreeSet,
    ffi::OsString,
    fs, io,
    path::{Path, PathBuf},
};

use clap::{Args, Parser, Subcommand};
use protocol::{
    NodeId, ZoneName,
    token::{
        Body, Membership, Revocations, Revoked, Role, Rotation, Signed, Succession, TokenError, ZoneToken,
    },
};
use thiserror::Error;

use crate::{
    clock,
    membership::{
        festival as membership, judge,
        key_file::{KeyError, OrganizerKey},
        revocation_list::RevocationList,
    },
    storage::atomic_file,
};

const ABOUT: &str = "\
Decides which relays are of a festival. Needs no network: keys, tokens and lists are small files that are
carried to the relays on a stick, by mail or as a printed line.";

const EXAMPLES: &str = "\
On the organizer's machine:
  relay-node festival create --name \"Field Day\" --out festival.key
  relay-node festival issue --key festival.key --node ID --zone camping --out camping.token
On the relay (its ID is what `relay-node id` prints there):
  relay-node --zone camping --festival-token camping.token --peer 10.0.0.2:8081
Later, when a relay was stolen:
  relay-node festival revoke --key festival.key --node ID --list revocations.pnr
and give the list to one relay with --revocations: the others have it from their neighbors.

Exit codes: 0 done, 64 bad usage or a file that is not what it should be, 69 a file cannot be written or
read, 1 (`show`) something shown is not valid.";

/// One command of the organizer.
#[derive(Debug, Clone, PartialEq, Eq, Parser)]
#[command(name = "relay-node festival", about = ABOUT, after_help = EXAMPLES, max_term_width = 100)]
pub struct OrganizerCommand {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Clone, PartialEq, Eq, Subcommand)]
enum Command {
    /// Make the organizer's key, and with it a festival; prints the festival's id
    Create(Create),
    /// Sign a zone token for a relay; prints it, or writes it with --out
    Issue(Issue),
    /// Take relays or single tokens back: adds them to the list and signs it anew
    Revoke(Revoke),
    /// Go over to a new key: the old one signs it, and relays that know the old one learn the new one
    Rotate(Rotate),
    /// Say what is in a key, a token or a list, and whether it is valid
    Show(Show),
}

#[derive(Debug, Clone, PartialEq, Eq, Args)]
struct Create {
    /// The festival's name, for people
    #[arg(long, value_name = "NAME")]
    name: String,
    /// The key file to make, readable by you only; never overwritten
    #[arg(long, value_name = "FILE", default_value = "festival.key")]
    out: PathBuf,
}

#[derive(Debug, Clone, PartialEq, Eq, Args)]
struct Issue {
    /// The organizer's key file
    #[arg(long, value_name = "FILE", default_value = "festival.key")]
    key: PathBuf,
    /// The relay's id: what `relay-node id` prints there
    #[arg(long, value_name = "ID", value_parser = node)]
    node: NodeId,
    /// The zone it serves
    #[arg(long, value_name = "ZONE", value_parser = zone)]
    zone: ZoneName,
    /// How long it counts; 48 h more, unless a relay's --token-grace says otherwise
    #[arg(long, value_name = "DAYS", default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..=3660))]
    days: u64,
    /// Where to write the token; without it is printed
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Let this relay publish a name that is live from another zone: all listeners hear it from then on. Relays of
    /// earlier releases do not read such a token
    #[arg(long)]
    may_take_over: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Args)]
struct Revoke {
    /// The organizer's key file
    #[arg(long, value_name = "FILE", default_value = "festival.key")]
    key: PathBuf,
    /// A relay that is no longer of the festival, whatever token it shows; repeatable
    #[arg(long, value_name = "ID", value_parser = node, required_unless_present = "serial")]
    node: Vec<NodeId>,
    /// The serial number of a token that no longer counts (`show` tells it); repeatable
    #[arg(long, value_name = "NUMBER")]
    serial: Vec<u64>,
    /// The list to add to; made if it is not there
    #[arg(long, value_name = "FILE", default_value = "revocations.pnr")]
    list: PathBuf,
}

#[derive(Debug, Clone, PartialEq, Eq, Args)]
struct Rotate {
    /// The key file until now
    #[arg(long, value_name = "FILE", default_value = "festival.key")]
    key: PathBuf,
    /// The key file from now on; never overwritten
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// Hours for which tokens of the old key still count; without it each counts until it ends
    #[arg(long, value_name = "HOURS", value_parser = clap::value_parser!(u64).range(0..=87_840))]
    old_hours: Option<u64>,
    /// The list that tells the relays; made if it is not there
    #[arg(long, value_name = "FILE", default_value = "revocations.pnr")]
    list: PathBuf,
}

#[derive(Debug, Clone, PartialEq, Eq, Args)]
struct Show {
    /// A key file, a zone token or a list of revocations
    #[arg(value_name = "FILE", required = true)]
    files: Vec<PathBuf>,
    /// The festival's id, or a file that holds it; without it each signature is checked against the
    /// festival it names itself
    #[arg(long, value_name = "ID|FILE")]
    festival_key: Option<String>,
}

/// Why a command of the organizer was not carried out.
#[derive(Debug, Error)]
pub enum OrganizerError {
    /// The command line: text for the terminal.
    #[error("{}", .0.render())]
    Usage(clap::Error),
    /// A file is not what it should be.
    #[error("{}: {problem}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// A file cannot be read or written.
    #[error("{}: {error}", path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// The time is needed and the machine does not have it.
    #[error("the clock says {0}: set it first, a token is signed with its date")]
    Clock(rooms::WallTime),
    /// Something that was to be shown is not valid.
    #[error("not everything shown is valid")]
    NotValid,
}

impl OrganizerError {
    /// The exit code of the contract.
    pub fn exit_code(&self) -> u8 {
        match self {
            OrganizerError::Usage(_) | OrganizerError::File { .. } | OrganizerError::Clock(_) => 64,
            OrganizerError::Io { .. } => 69,
            OrganizerError::NotValid => 1,
        }
    }
}

/// Unix seconds before which the clock was not set.
const EARLIEST: u64 = clock::EARLIEST.0 / 1000;
const DAY: u64 = 86_400;

impl OrganizerCommand {
    /// Reads what stands behind `relay-node festival`.
    ///
    /// # Errors
    ///
    /// What clap has to say, help included.
    pub fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<OrganizerCommand, clap::Error> {
        OrganizerCommand::try_parse_from([OsString::from("relay-node festival")].into_iter().chain(arguments))
    }

    /// Carries it out.
    ///
    /// # Errors
    ///
    /// [`OrganizerError::File`] for a file that is not what it should be, [`OrganizerError::Io`] for one that
    /// cannot be read or written, [`OrganizerError::Clock`] if the clock is not set where a date is signed,
    /// [`OrganizerError::NotValid`] if something shown is not.
    pub fn run(self) -> Result<(), OrganizerError> {
        let now = clock::wall().0 / 1000;
        match self.command {
            Command::Create(create) => create.run(),
            Command::Issue(issue) => issue.run(now),
            Command::Revoke(revoke) => revoke.run(),
            Command::Rotate(rotate) => rotate.run(now),
            Command::Show(show) => show.run(now),
        }
    }
}

impl Create {
    fn run(self) -> Result<(), OrganizerError> {
        let key = OrganizerKey::create(&self.name).map_err(|error| bad_key(&self.out, error))?;
        key.write(&self.out).map_err(|error| bad_key(&self.out, error))?;
        println!("{}", key.id());
        let out = self.out.display();
        eprintln!(
            "The festival {:?} is what {out} signs. Only you can read this file; who has it can let any relay in:\n\
             keep it off the relays, and a copy of it in a safe place. What is printed above is the festival's id.",
            self.name
        );
        Ok(())
    }
}

impl Issue {
    fn run(self, now: u64) -> Result<(), OrganizerError> {
        let key = read_key(&self.key)?;
        let role = if self.may_take_over { Role::MayTakeOver } else { Role::Relay };
        let (text, serial) = issue_as(role, &key, self.node, &self.zone, self.days, now)?;
        let Some(out) = &self.out else {
            print!("{text}");
            return Ok(());
        };
        write(out, &text, atomic_file::PUBLIC)?;
        eprintln!(
            "{} lets {} be the relay of {} for {} days (serial number {serial}): give it to that relay with\n\
             --festival-token. It is of no use to any other relay.",
            out.display(),
            self.node.short(),
            self.zone,
            self.days
        );
        Ok(())
    }
}

/// The organizer's key in that file.
///
/// # Errors
///
/// [`OrganizerError::Io`] if it cannot be read, [`OrganizerError::File`] if it holds something else.
pub fn read_key(path: &Path) -> Result<OrganizerKey, OrganizerError> {
    OrganizerKey::read(path).map_err(|error| bad_key(path, error))
}

/// A file for a relay: its token, and how the key that signed it came from earlier ones. With the serial number.
///
/// # Errors
///
/// As [`issue_as`].
pub fn issue(
    key: &OrganizerKey,
    node: NodeId,
    zone: &ZoneName,
    days: u64,
    now: u64,
) -> Result<(String, u64), OrganizerError> {
    issue_as(Role::Relay, key, node, zone, days, now)
}

/// The same for a relay that may be more.
///
/// # Errors
///
/// [`OrganizerError::Clock`] if the clock that gave `now` is not set.
pub fn issue_as(
    role: Role,
    key: &OrganizerKey,
    node: NodeId,
    zone: &ZoneName,
    days: u64,
    now: u64,
) -> Result<(String, u64), OrganizerError> {
    if now < EARLIEST {
        return Err(OrganizerError::Clock(rooms::WallTime(now * 1000)));
    }
    let serial = u64::from(rand::random::<u32>());
    let (festival, zone) = (key.id(), zone.clone());
    let not_after = now + days * DAY;
    let body = Membership { festival, serial, node, zone, role, issued_at: now, not_after };
    let token: ZoneToken = Signed::sign(body, &key.pair).expect("a token with the longest name fits");
    let mut lines = key.revocations().lines();
    lines.push(token.to_string());
    Ok((lines.join("\n") + "\n", serial))
}

impl Revoke {
    fn run(self) -> Result<(), OrganizerError> {
        let key = read_key(&self.key)?;
        let revocations = list(&key, &self.list)?;
        let text =
            signed(&key, revocations, self.node, self.serial).map_err(|error| bad_list(&self.list, error))?;
        write(&self.list, &text, atomic_file::PUBLIC)?;
        said(&text);
        eprintln!(
            "Give {} to one relay with --revocations, or put it in the place of the list it reads: it hands the\n\
             list on, and links of those named are closed.",
            self.list.display()
        );
        Ok(())
    }
}

impl Rotate {
    fn run(self, now: u64) -> Result<(), OrganizerError> {
        if self.old_hours.is_some() && now < EARLIEST {
            return Err(OrganizerError::Clock(rooms::WallTime(now * 1000)));
        }
        let old = read_key(&self.key)?;
        let mut revocations = list(&old, &self.list)?;
        if revocations.organizer().newest() != old.id() {
            let problem = "this key was given up for another one: rotate that one".to_owned();
            return Err(OrganizerError::File { path: self.key, problem });
        }
        let old_until = self.old_hours.map(|hours| now + hours * 3600);
        let (new, rotation) = old.next(old_until).map_err(|error| bad_key(&self.out, error))?;
        revocations.adopt(&rotation.to_string()).map_err(|error| bad_list(&self.list, error))?;
        // The list is signed anew: the old key's word is not needed any more.
        let text = signed(&new, revocations, vec![], vec![]).map_err(|error| bad_list(&self.list, error))?;
        new.write(&self.out).map_err(|error| bad_key(&self.out, error))?;
        write(&self.list, &text, atomic_file::PUBLIC)?;
        println!("{}", new.id());
        eprintln!(
            "{} signs for the festival from now on; what is printed above is its id. Give {} to one relay with\n\
             --revocations: relays that know the old id learn the new one from it. If the old key was stolen,\n\
             give every relay a new token and the new id with --festival-key, and start it again.",
            self.out.display(),
            self.list.display()
        );
        Ok(())
    }
}

/// The revocations in a list of this festival; none if there is no such file.
fn list(key: &OrganizerKey, path: &Path) -> Result<RevocationList, OrganizerError> {
    let mut revocations = key.revocations();
    match fs::read_to_string(path) {
        Ok(text) => revocations.read(&text).map(drop).map_err(|error| bad_list(path, error))?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(OrganizerError::Io { path: path.to_owned(), error }),
    }
    Ok(revocations)
}

/// The list with these added, in the next epoch.
fn signed(
    key: &OrganizerKey,
    mut revocations: RevocationList,
    nodes: Vec<NodeId>,
    serials: Vec<u64>,
) -> Result<String, TokenError> {
    let none = || Revoked { festival: key.id(), epoch: 0, nodes: BTreeSet::new(), serials: BTreeSet::new() };
    let mut body = revocations.revoked().cloned().unwrap_or_else(none);
    body.festival = key.id();
    body.epoch += 1;
    body.nodes.extend(nodes);
    body.serials.extend(serials);
    let list: Revocations = Signed::sign(body, &key.pair)?;
    if !revocations.adopt(&list.to_string())? {
        // A key that was given up cannot say the last word.
        return Err(TokenError::OtherFestival);
    }
    Ok(revocations.text())
}

impl Show {
    fn run(self, now: u64) -> Result<(), OrganizerError> {
        let mut revocations = match &self.festival_key {
            Some(text) => {
                let id = membership::key(text);
                Some(RevocationList::new(
                    id.map_err(|problem| OrganizerError::File { path: text.into(), problem })?,
                ))
            }
            None => None,
        };
        let mut valid = true;
        for path in &self.files {
            valid &= show(path, &mut revocations, now)?;
        }
        if valid { Ok(()) } else { Err(OrganizerError::NotValid) }
    }
}

/// Tells what is in a file; whether all of it is valid. Without a festival to compare with the first line
/// says which one it is.
fn show(path: &Path, revocations: &mut Option<RevocationList>, now: u64) -> Result<bool, OrganizerError> {
    let text =
        fs::read_to_string(path).map_err(|error| OrganizerError::Io { path: path.to_owned(), error })?;
    let shown = path.display();
    if let Ok(key) = OrganizerKey::read(path) {
        println!("{shown}: key number {} of the organizer of {:?}: secret", key.epoch(), key.name);
        println!("  festival id  {}", key.id());
        return Ok(true);
    }
    let mut valid = true;
    let mut any = false;
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let (what, facts, verdict) = tell(line, revocations, now).map_err(|error| bad_list(path, error))?;
        println!("{shown}: {what}");
        for (name, value) in facts {
            println!("  {name:<11}  {value}");
        }
        println!("  {}", verdict.as_deref().unwrap_or("valid"));
        valid &= verdict.is_none();
        any = true;
    }
    if !any {
        return Err(OrganizerError::File { path: path.to_owned(), problem: "is empty".to_owned() });
    }
    Ok(valid)
}

/// What a line is, what it says, and what is wrong with it.
type Told = (&'static str, Vec<(&'static str, String)>, Option<String>);

fn tell(line: &str, revocations: &mut Option<RevocationList>, now: u64) -> Result<Told, TokenError> {
    let date = |seconds: u64| rooms::WallTime(seconds.saturating_mul(1000)).to_string();
    let wrong = |error: &dyn std::fmt::Display| Some(format!("NOT VALID: it {error}"));
    if line.starts_with(Membership::PREFIX) {
        let token: ZoneToken = line.parse()?;
        let body = token.unverified();
        let revocations = revocations.get_or_insert_with(|| RevocationList::new(body.festival));
        let verdict = match judge::believe(revocations, body.node, &body.zone, Some(line)) {
            Err(outsider) => Some(format!("NOT VALID: its relay {outsider}")),
            Ok(_) if revocations.revokes(body) => Some("NOT VALID: it was revoked".to_owned()),
            Ok(_) if now > body.not_after => {
                Some(format!("NOT VALID: it ended {} h ago", (now - body.not_after) / 3600))
            }
            Ok(_) if now < body.issued_at => Some("NOT VALID yet, by the clock of this machine".to_owned()),
            Ok(_) => None,
        };
        let facts = vec![
            ("festival id", body.festival.to_string()),
            ("relay", body.node.to_string()),
            ("zone", body.zone.to_string()),
            ("may take over", if body.role == Role::MayTakeOver { "yes" } else { "no" }.to_owned()),
            ("serial", body.serial.to_string()),
            ("issued", date(body.issued_at)),
            ("ends", date(body.not_after)),
        ];
        return Ok((Membership::WHAT, facts, verdict));
    }
    if line.starts_with(Succession::PREFIX) {
        let rotation: Rotation = line.parse()?;
        let body = rotation.unverified();
        let revocations = revocations.get_or_insert_with(|| RevocationList::new(body.old));
        let verdict = revocations.adopt(line).err().and_then(|error| wrong(&error));
        let facts = vec![
            ("old id", body.old.to_string()),
            ("new id", body.new.to_string()),
            ("number", body.epoch.to_string()),
            ("old until", body.old_until.map_or("each token ends by itself".to_owned(), date)),
        ];
        return Ok((Succession::WHAT, facts, verdict));
    }
    let list: Revocations = line.parse()?;
    let body = list.unverified();
    let revocations = revocations.get_or_insert_with(|| RevocationList::new(body.festival));
    let verdict = match revocations.adopt(line) {
        Ok(_) => None,
        Err(error) => wrong(&error),
    };
    let mut facts = vec![("festival id", body.festival.to_string()), ("epoch", body.epoch.to_string())];
    facts.extend(body.nodes.iter().map(|node| ("relay", node.to_string())));
    facts.extend(body.serials.iter().map(|serial| ("serial", serial.to_string())));
    Ok((Revoked::WHAT, facts, verdict))
}

fn said(text: &str) {
    for list in text.lines().filter_map(|line| line.parse::<Revocations>().ok()) {
        let Revoked { epoch, nodes, serials, .. } = list.unverified();
        println!("list {epoch}: {} relays, {} tokens", nodes.len(), serials.len());
    }
}

fn node(text: &str) -> Result<NodeId, String> {
    text.parse()
        .map_err(|_| "a relay's id is 64 hexadecimal characters: `relay-node id` prints it there".to_owned())
}

fn zone(text: &str) -> Result<ZoneName, String> {
    ZoneName::new(text).map_err(|error| error.to_string())
}

fn write(path: &Path, text: &str, mode: u32) -> Result<(), OrganizerError> {
    atomic_file::write(path, text.as_bytes(), mode)
        .map_err(|error| OrganizerError::Io { path: path.to_owned(), error })
}

fn bad_key(path: &Path, error: KeyError) -> OrganizerError {
    let path = path.to_owned();
    match error {
        KeyError::Io(error) => OrganizerError::Io { path, error },
        error => OrganizerError::File { path, problem: error.to_string() },
    }
}

fn bad_list(path: &Path, error: TokenError) -> OrganizerError {
    OrganizerError::File { path: path.to_owned(), problem: error.to_string() }
}
