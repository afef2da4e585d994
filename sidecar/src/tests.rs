//! How long the sidecar as a whole stays, on a clock that jumps.

use super::*;

/// Returns how long a sidecar with nothing to do stays once it is told to stop.
async fn stays(variables: &[(&str, &str)]) -> Duration {
    let always = [
        ("PORTS", "0:9"),
        ("ADDRESS", "127.0.0.1"),
        ("POD_UID", "u-1"),
        ("LINGER", "10m"),
        ("DRAIN_GRACE", "20m"),
        ("READINESS", "none"),
    ];
    let config = Config::read(|name| {
        let name = name.strip_prefix("STILLWAKE_SIDECAR_")?;
        let mut all = variables.iter().chain(&always);
        all.find(|(key, _)| *key == name)
            .map(|(_, value)| value.into())
    });
    let shutdown = Shutdown::default();
    shutdown.drain.cancel();
    let told = Instant::now();
    serve(config.unwrap(), shutdown).await.unwrap();
    told.elapsed()
}

const MINUTE: Duration = Duration::from_mins(1);

#[tokio::test(start_paused = true)]
async fn with_an_activator_it_stays_for_the_linger() {
    let activator = ("ACTIVATOR", "127.0.0.1:9");
    let stayed = stays(&[activator]).await;
    assert!(
        (MINUTE * 10..MINUTE * 11).contains(&stayed),
        "it stayed {stayed:?}"
    );
    let stayed = stays(&[activator, ("DRAIN_GRACE", "5m")]).await;
    assert!(
        (MINUTE * 5..MINUTE * 6).contains(&stayed),
        "it stayed {stayed:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn without_an_activator_there_is_nothing_to_stay_for() {
    let stayed = stays(&[]).await;
    assert!(stayed < MINUTE, "it stayed {stayed:?}");
}
