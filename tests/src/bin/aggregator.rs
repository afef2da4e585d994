//! The cluster suites' aggregator as a program; all of it is in `stillwake_e2e::aggregator`.

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    stillwake_e2e::aggregator::run().await
}
