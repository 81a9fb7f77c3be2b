//! Starts what the command line asks for: the relay itself or one of its small tasks.

use std::{error::Error, io::IsTerminal, process::ExitCode};

use relay_node::{
    bridge::Identity,
    cli::{backup, doctor, festival::OrganizerCommand, new_id, pair},
    config::{self, ConfigError, Task},
    relay,
};
use tracing_subscriber::{
    Layer, filter::Targets, fmt, layer::SubscriberExt as _, util::SubscriberInitExt as _,
};

pub(crate) fn main() -> ExitCode {
    let read = config::from_process().and_then(|(task, mut config)| {
        if matches!(task, Task::Serve | Task::CheckConfig | Task::Doctor { .. }) {
            config.trust_paired()?;
        }
        Ok((task, config))
    });
    let (task, config) = match read {
        Ok(read) => read,
        Err(error) => return refused(&error),
    };
    // rtc-dtls warns at each start of a server name that a DTLS server does not have; dcsctp tells each packet.
    let log = format!("rtc_dtls=error,dcsctp=off,{}", config.log).parse::<Targets>().expect("config read it");
    let lines = fmt::layer().with_ansi(std::io::stderr().is_terminal()).with_writer(std::io::stderr);
    tracing_subscriber::registry().with(lines.with_filter(log)).init();
    let result = match task {
        Task::Serve => relay::run(config),
        Task::Id { new: true } => return ended(new_id::run(&config).map_err(|error| (69, error.into()))),
        Task::Id { new: false } => Identity::load_or_create(&config.data)
            .map(|identity| println!("{}", identity.node_id()))
            .map_err(|error| relay::RelayError::Unavailable(error.to_string())),
        Task::Festival(arguments) => {
            return match OrganizerCommand::parse(arguments).map_err(ConfigError::Usage) {
                Ok(command) => ended(command.run().map_err(|error| (error.exit_code(), error.into()))),
                Err(error) => refused(&error),
            };
        }
        Task::Pair(pair) => {
            return ended(pair::run(&pair, &config).map_err(|error| (error.exit_code(), error.into())));
        }
        Task::CheckConfig => {
            println!("{config:#?}\nthis configuration is good");
            Ok(())
        }
        Task::Backup(file) => {
            let done = backup::backup(&file, &config);
            return ended(done.map_err(|error| (error.exit_code(), error.into())));
        }
        Task::Restore(file) => {
            let done = backup::restore(&file, &config);
            return ended(done.map_err(|error| (error.exit_code(), error.into())));
        }
        Task::Doctor { store } => {
            return if doctor::run(&config, store) { ExitCode::SUCCESS } else { ExitCode::FAILURE };
        }
    };
    ended(result.map_err(|error| (error.exit_code(), error.into())))
}

/// The command line or the configuration is not good, or help was asked for.
fn refused(error: &ConfigError) -> ExitCode {
    error.print();
    ExitCode::from(error.exit_code())
}

fn ended(result: Result<(), (u8, Box<dyn Error>)>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err((code, error)) => {
            eprintln!("relay-node: {error}");
            ExitCode::from(code)
        }
    }
}
