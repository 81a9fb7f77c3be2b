//! `mesh-sim`: an operator's festival in the simulator, and schedules played again. Arguments and files are
//! here; everything else is `mesh_routing::sim`.

use std::process::ExitCode;

use mesh_routing::sim::{plan::Festival, report, schedule::Schedule, trial};

const HELP: &str = "\
Runs a festival in the simulator: real relays' routing, in virtual time.

usage: mesh-sim TOPOLOGY.json [--json] [--no-failures]
       mesh-sim --replay SCHEDULE.json

  TOPOLOGY.json   relays, wires, streams, listeners and what happens (docs/simulator.md)
  --json          figures as JSON instead of tables
  --no-failures   does not try each failure alone
  --replay FILE   plays a schedule that a test printed, and says what broke

exit code: 0 well, 1 an invariant broke, 2 the arguments or the file are wrong";

fn main() -> ExitCode {
    match run(std::env::args().skip(1).collect()) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("mesh-sim: {error}");
            ExitCode::from(2)
        }
    }
}

fn run(arguments: Vec<String>) -> Result<ExitCode, String> {
    let (mut json, mut failures, mut replay, mut file) = (false, true, false, None);
    for argument in arguments {
        match argument.as_str() {
            "-h" | "--help" => {
                println!("{HELP}");
                return Ok(ExitCode::SUCCESS);
            }
            "--json" => json = true,
            "--no-failures" => failures = false,
            "--replay" => replay = true,
            other if other.starts_with('-') => return Err(format!("no such flag: {other} (see --help)")),
            _ if file.is_some() => return Err("one file at a time".into()),
            _ => file = Some(argument),
        }
    }
    let file = file.ok_or("which file? (see --help)")?;
    let text = std::fs::read_to_string(&file).map_err(|error| format!("{file}: {error}"))?;
    if replay {
        let schedule: Schedule = serde_json::from_str(&text).map_err(|error| format!("{file}: {error}"))?;
        schedule.check().map_err(|error| format!("{file}: {error}"))?;
        return Ok(match schedule.play() {
            Ok(outcome) => {
                println!("right again after {:?}, {} messages", outcome.settled, outcome.messages);
                ExitCode::SUCCESS
            }
            Err(broken) => {
                println!("broken: {broken}");
                ExitCode::from(1)
            }
        });
    }
    let festival = Festival::parse(&text).map_err(|error| format!("{file}: {error}"))?;
    let figures = trial::figures(&festival, failures);
    if json {
        let json = serde_json::to_string_pretty(&figures).map_err(|error| error.to_string())?;
        println!("{json}");
    } else {
        print!("{}", report::tables(&figures));
    }
    Ok(ExitCode::SUCCESS)
}
