//! `mesh-sim`: an operator's festival in the simulator, and schedules played again. Arguments and files are
//! here; everything else is `mesh_routing::sim`.

use std::process::ExitCode;

use mesh_routing::sim::{generate, plan::Festival, report, schedule::Schedule, series::Series, trial};

const HELP: &str = "\
Runs a festival in the simulator: real relays' routing, in virtual time.

usage: mesh-sim TOPOLOGY.json [--json] [--no-failures]
       mesh-sim --replay SCHEDULE.json
       mesh-sim --schedules COUNT [--seed FIRST]

  TOPOLOGY.json   relays, wires, streams, listeners and what happens (docs/simulator.md)
  --json          figures as JSON instead of tables
  --no-failures   does not try each failure alone
  --replay FILE   plays a schedule that a test printed, and says what broke
  --schedules N   plays so many random schedules, and prints those that broke something as small as they get
  --seed FIRST    the seed of the first one; 0 by default

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
    let (mut schedules, mut seed) = (None, 0);
    let mut arguments = arguments.into_iter();
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--schedules" => schedules = Some(number(&argument, arguments.next())?),
            "--seed" => seed = number(&argument, arguments.next())?,
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
    if let Some(count) = schedules {
        let series = Series::play(seed, count, generate::schedule);
        println!("{series}");
        series.failed.iter().for_each(|failed| println!("{failed}"));
        return Ok(ExitCode::from(u8::from(!series.failed.is_empty())));
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

fn number(flag: &str, value: Option<String>) -> Result<u64, String> {
    let value = value.ok_or_else(|| format!("{flag}: which number? (see --help)"))?;
    value.parse().map_err(|_| format!("{flag}: {value:?} is no number"))
}
