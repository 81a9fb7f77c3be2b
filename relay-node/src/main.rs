//! Starts what the command line asks for: the relay itself or one of its small tasks.

use std::{io::IsTerminal, process::ExitCode};

use relay_node::{bridge::Identity, config, config::Task, doctor, relay};

fn main() -> ExitCode {
    let (task, config) = match config::from_process() {
        Ok(read) => read,
        Err(error) => {
            error.print();
            return ExitCode::from(error.exit_code());
        }
    };
    // rtc-dtls warns at each start of a server name that a DTLS server does not have.
    let log = tracing_subscriber::EnvFilter::new(format!("rtc_dtls=error,{}", config.log));
    let colours = std::io::stderr().is_terminal();
    tracing_subscriber::fmt().with_env_filter(log).with_ansi(colours).with_writer(std::io::stderr).init();
    let result = match task {
        Task::Serve => relay::run(config),
        Task::Id => Identity::load_or_create(&config.data)
            .map(|identity| println!("{}", identity.node_id()))
            .map_err(|error| relay::RelayError::Unavailable(error.to_string())),
        Task::Festival(desk) => {
            return match desk.run() {
                Ok(()) => ExitCode::SUCCESS,
                Err(error) => {
                    eprintln!("relay-node: {error}");
                    ExitCode::from(error.exit_code())
                }
            };
        }
        Task::CheckConfig => {
            println!("{config:#?}\nthis configuration is good");
            Ok(())
        }
        Task::Doctor => return if doctor::run(&config) { ExitCode::SUCCESS } else { ExitCode::FAILURE },
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("relay-node: {error}");
            ExitCode::from(error.exit_code())
        }
    }
}
