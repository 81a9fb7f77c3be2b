//! The one reader of time in the harness, and waiting for things to become true.
//! Nothing here knows what is waited for.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};

/// The time.
#[expect(clippy::disallowed_methods, reason = "the harness drives real processes in real time")]
pub fn now() -> Instant {
    Instant::now()
}

/// Milliseconds since 1970, as other programs on this machine count them.
#[expect(clippy::disallowed_methods, reason = "reports of other processes tell times by the calendar")]
pub fn unix_ms() -> f64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(0.0, |since| since.as_secs_f64() * 1e3)
}

/// Lets real time pass, where the passing itself is what a test is about ("plays for 3 s").
pub async fn pause(time: Duration) {
    tokio::time::sleep(time).await;
}

/// Asks `ready` again and again until it gives something; fails after `limit`, saying `what` did not happen
/// and what the last error was.
pub async fn until<T, F>(what: &str, limit: Duration, mut ready: impl FnMut() -> F) -> Result<T>
where
    F: Future<Output = Result<Option<T>>>,
{
    let began = now();
    let mut last = String::from("not yet");
    loop {
        match ready().await {
            Ok(Some(value)) => return Ok(value),
            Ok(None) => {}
            Err(error) => last = format!("{error:#}"),
        }
        if began.elapsed() >= limit {
            bail!("{what}: did not happen within {limit:?} ({last})");
        }
        pause(Duration::from_millis(20)).await;
    }
}
