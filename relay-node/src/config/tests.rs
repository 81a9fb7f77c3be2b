//! What flags, environment and file come to.

use std::fs;

use super::{layers::KEYS, *};

fn run(arguments: &[&str], environment: &[(&str, &str)]) -> Result<Config, ConfigError> {
    let arguments = std::iter::once("relay-node").chain(arguments.iter().copied()).map(OsString::from);
    let environment = environment.iter().map(|(name, value)| (OsString::from(name), OsString::from(value)));
    read(arguments, environment).map(|(_, config)| config)
}

fn refused(arguments: &[&str], environment: &[(&str, &str)]) -> String {
    let error = run(arguments, environment).expect_err("is refused");
    assert_eq!(error.exit_code(), 64, "{error}");
    error.to_string()
}

fn file(text: &str) -> tempfile::NamedTempFile {
    let file = tempfile::NamedTempFile::new().expect("a file");
    fs::write(&file, text).expect("writes");
    file
}

#[test]
fn the_defaults_are_those_of_the_contract() {
    let config = run(&[], &[]).expect("is good");
    assert_eq!(config.zone.as_str(), "main");
    assert_eq!(config.http.to_string(), "0.0.0.0:8080");
    assert_eq!(config.media.to_string(), "0.0.0.0:8080");
    assert_eq!(config.bridge.to_string(), "0.0.0.0:8081");
    assert_eq!(config.data, PathBuf::from("./data"));
    assert_eq!((config.opus_bitrate, config.simulcast), (256_000, true));
    assert_eq!(config.ladder, None, "if the machine is fast enough");
    assert_eq!(config.merge_above, 40_000);
    let files = FileLimits { size: 256 << 20, cache: 2 << 30, reserve: 512 << 20 };
    assert_eq!(config.files, files);
    assert!(!config.dev && config.peers.is_empty() && config.trust.is_empty());
    assert!(config.publish_token.is_none() && config.workers >= 1);
}

#[test]
fn the_file_gives_way_to_the_environment_and_that_to_the_flag() {
    let file =
        file("zone = \"file\"\nworkers = 1\nopus-bitrate = 64000\npeer = [\"a:1\", \"b:2\"]\ndev = true");
    let path = file.path().to_str().expect("text");
    let environment = [("RELAY_CONFIG", path), ("RELAY_WORKERS", "2"), ("RELAY_OPUS_BITRATE", "96000")];
    let config = run(&["--opus-bitrate", "128000"], &environment).expect("is good");
    assert_eq!(config.zone.as_str(), "file");
    assert_eq!((config.workers, config.opus_bitrate, config.dev), (2, 128_000, true));
    assert_eq!(config.peers.iter().map(Peer::to_string).collect::<Vec<_>>(), ["a:1", "b:2"]);
    assert!(!run(&["--simulcast", "false"], &environment).expect("is good").ingest_policy().simulcast);
    for (arguments, ladder) in
        [(&["--no-ladder"][..], Some(false)), (&["--ladder", "auto"], None), (&[], Some(true))]
    {
        let config = run(arguments, &[("RELAY_LADDER", "true")]).expect("is good");
        assert_eq!(config.ladder, ladder);
    }
    let config = run(&["--config", path, "--peer", "c:3"], &[("RELAY_PEER", "d:4,e:5")]).expect("is good");
    assert_eq!(config.peers.iter().map(Peer::to_string).collect::<Vec<_>>(), ["c:3"]);
}

#[test]
fn an_error_names_key_value_source_and_what_is_allowed() {
    for (arguments, parts) in [
        (vec!["--zone", "Main Stage"], vec!["zone", "Main Stage", "--zone", "a-z, 0-9 and -"]),
        (vec!["--http", "8080"], vec!["http", "8080", "0.0.0.0:8080"]),
        (vec!["--area", "65536"], vec!["area", "from 0 to 65535"]),
        (vec!["--workers", "0"], vec!["workers", "from 1 to 64"]),
        (vec!["--peer", "stage"], vec!["peer", "stage", "HOST:PORT"]),
        (vec!["--peer", "stage:0"], vec!["peer", "HOST:PORT"]),
        (vec!["--peer", "http://stage:1"], vec!["peer", "HOST:PORT"]),
        (vec!["--public-ip", "0.0.0.0"], vec!["public-ip", "10.0.0.1"]),
        (vec!["--trust", "abc"], vec!["trust", "64 hexadecimal"]),
        (vec!["--trusted-proxy", "10.0.0.0/33"], vec!["trusted-proxy", "10.0.0.0/8"]),
        (vec!["--trusted-proxy", "proxy.local"], vec!["trusted-proxy", "address of a proxy"]),
        (vec!["--allow-host", "http://relay"], vec!["allow-host", "relay.example.org"]),
        (vec!["--allow-origin", "app.example"], vec!["allow-origin", "https://app.example"]),
        (vec!["--allow-origin", "https://app.example/path"], vec!["allow-origin", "without a path"]),
        (vec!["--opus-bitrate", "5999"], vec!["opus-bitrate", "6000 to 510000"]),
        (vec!["--max-video-bitrate", "30M"], vec!["max-video-bitrate", "100000 to 20000000"]),
        (vec!["--simulcast", "two"], vec!["simulcast", "two", "true or false"]),
        (vec!["--merge-above", "many"], vec!["merge-above", "0 to 1000000000"]),
        (vec!["--ladder", "maybe"], vec!["ladder", "maybe", "auto, true or false"]),
        (vec!["--log", "a=b=c"], vec!["log", "info"]),
        (vec!["--bridge", "0.0.0.0:8080"], vec!["bridge", "0.0.0.0:8080", "different ports"]),
        (vec!["--media", "127.0.0.1:8081"], vec!["media", "different ports"]),
        (vec!["--speed", "9"], vec!["--speed"]),
    ] {
        let error = refused(&arguments, &[]);
        for part in parts {
            assert!(error.contains(part), "{part} in {error}");
        }
    }
}

#[test]
fn a_key_nobody_knows_is_refused_wherever_it_stands() {
    let file = file("zoen = \"stage\"");
    let error = refused(&["--config", file.path().to_str().expect("text")], &[]);
    assert!(error.contains("zoen") && error.contains("public-ip"), "{error}");
    let error = refused(&[], &[("RELAY_ZOEN", "stage")]);
    assert!(error.contains("RELAY_ZOEN"), "{error}");
    assert!(run(&[], &[("RELAY_ZONE", ""), ("OTHER", "x")]).is_ok());
}

#[test]
fn a_file_that_is_missing_or_no_toml_is_named() {
    assert!(refused(&["--config", "/nowhere/relay.toml"], &[]).contains("/nowhere/relay.toml"));
    let broken = file("zone = ");
    assert!(refused(&["--config", broken.path().to_str().expect("text")], &[]).contains("is not TOML"));
    let table = file("[zone]\nname = \"x\"");
    assert!(refused(&["--config", table.path().to_str().expect("text")], &[]).contains("one value"));
}

#[test]
fn the_token_is_never_shown() {
    let error = refused(&["--publish-token", "short"], &[]);
    assert!(!error.contains("short") && error.contains("8 to 256"), "{error}");
    let config = run(&["--publish-token", "correct-horse"], &[]).expect("is good");
    assert!(!format!("{config:?}").contains("horse"));
    assert_eq!(config.publish_token.expect("is there").secret(), "correct-horse");
}

#[test]
fn peers_may_be_names_and_addresses_of_both_families() {
    let arguments = ["--peer", "stage.local:8081", "--peer", "10.0.0.2:1", "--peer", "[fd00::2]:65535"];
    let config = run(&arguments, &[]).expect("is good");
    let peers: Vec<_> = config.peers.iter().map(Peer::to_string).collect();
    assert_eq!(peers, ["stage.local:8081", "10.0.0.2:1", "[fd00::2]:65535"]);
}

#[test]
fn a_peer_may_say_what_the_way_there_runs_over() {
    let texts = |config: Config| config.peers.iter().map(Peer::to_string).collect::<Vec<_>>();
    let expected = ["a:1,kind=lte,metered,bias=20", "b:2"];
    let flags = run(&["--peer", "a:1,metered,kind=lte,bias=20", "--peer", "b:2"], &[]);
    assert_eq!(texts(flags.expect("is good")), expected);
    let environment = run(&[], &[("RELAY_PEER", "a:1, kind=lte, metered, bias=20, b:2")]);
    assert_eq!(texts(environment.expect("is good")), expected);
    let file = file(
        "peer = [{ address = \"a:1\", kind = \"lte\", metered = true, bias = 20 }, \"b:2\"]\ndiscover = true",
    );
    let config = run(&["--config", file.path().to_str().expect("text")], &[]).expect("is good");
    assert!(config.discover);
    assert_eq!(texts(config), expected);
    assert!(refused(&["--peer", "a:1,kind=pigeon"], &[]).contains("kind=fibre"));
}

#[test]
fn trusted_proxies_may_be_given_everywhere() {
    let trusts =
        |config: Config, text: &str| config.trusted_proxies.trusts(text.parse().expect("an address"));
    let flags =
        || run(&["--trusted-proxy", "127.0.0.1", "--trusted-proxy", "fd00::/8"], &[]).expect("is good");
    assert!(trusts(flags(), "127.0.0.1") && trusts(flags(), "fd12::1") && !trusts(flags(), "127.0.0.2"));
    let environment = || run(&[], &[("RELAY_TRUSTED_PROXY", "10.0.0.0/8, 192.0.2.1")]).expect("is good");
    assert!(trusts(environment(), "10.2.3.4") && trusts(environment(), "192.0.2.1"));
    let file = file("trusted-proxy = \"10.0.0.0/8\"");
    let config = run(&["--config", file.path().to_str().expect("text")], &[]).expect("is good");
    assert!(trusts(config, "10.2.3.4"));
    assert!(!trusts(run(&[], &[]).expect("is good"), "127.0.0.1"));
}

#[test]
fn names_and_origins_are_kept_in_one_form() {
    let flags = ["--allow-host", "Relay.Example.org.", "--allow-host", "*"];
    assert_eq!(run(&flags, &[]).expect("is good").allow_hosts, ["relay.example.org", "*"]);
    let environment = [("RELAY_ALLOW_ORIGIN", "HTTPS://App.Example:443, http://a:3000, null")];
    let config = run(&[], &environment).expect("is good");
    assert_eq!(config.allow_origins, ["https://app.example", "http://a:3000", "null"]);
    let config = run(&[], &[]).expect("is good");
    assert!(config.allow_hosts.is_empty() && config.allow_origins.is_empty());
}

#[test]
fn help_is_not_an_error_and_subcommands_take_the_same_flags() {
    assert_eq!(run(&["--help"], &[]).expect_err("ends the process").exit_code(), 0);
    let arguments = ["relay-node", "doctor", "--zone", "camping"].map(OsString::from);
    let (task, config) = read(arguments, []).expect("is good");
    assert_eq!((task, config.zone.as_str()), (Task::Doctor { store: false }, "camping"));
}

#[test]
fn the_example_file_is_good_and_names_every_key() {
    let text = include_str!("../../../deploy/relay-node.example.toml");
    let file = file(text);
    run(&["--config", file.path().to_str().expect("text")], &[]).expect("is good");
    for (key, _) in KEYS {
        assert!(
            text.lines().any(|line| line.trim_start_matches("# ").starts_with(&format!("{key} ="))),
            "{key}"
        );
    }
}

#[test]
fn chat_and_streams_are_bounded_by_flags_file_and_environment() {
    let config = run(&[], &[]).expect("is good");
    assert_eq!((config.chat, config.streams.len()), (ChatLimits::default(), 0));
    let file = file("chat-rate = 0.5\nchat-burst = 3\nstreams = [\"main-stage\", \"kiosk/*\"]");
    let environment =
        [("RELAY_CHAT_ADDRESS_RATE", "0"), ("RELAY_CONFIG", file.path().to_str().expect("text"))];
    let config = run(&[], &environment).expect("is good");
    assert_eq!(config.chat, ChatLimits { rate: 0.5, burst: 3, address_rate: 0.0 });
    assert_eq!(config.streams.iter().map(Streams::to_string).collect::<Vec<_>>(), ["main-stage", "kiosk/*"]);
    let config = run(&["--streams", "fm, main-stage", "--streams", "*"], &environment).expect("is good");
    assert_eq!(config.streams.len(), 3);
    let config = run(&[], &[("RELAY_STREAMS", "fm,kiosk/*")]).expect("is good");
    assert_eq!(config.streams.len(), 2);
    for (key, value, part) in [
        ("--chat-rate", "-1", "from 0 to 10000"),
        ("--chat-rate", "NaN", "messages a second"),
        ("--chat-burst", "0", "from 1 to 1000"),
        ("--chat-address-rate", "many", "messages a second"),
        ("--streams", "Main Stage", "kiosk/*"),
        ("--streams", "kiosk*", "kiosk/*"),
        ("--streams", "fm,,x", "joined by commas"),
    ] {
        let error = refused(&[&format!("{key}={value}")], &[]);
        assert!(error.contains(part), "{error}");
    }
}
