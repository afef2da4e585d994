//! Several ports of one workload, each with a listener.

use stillwake_activator::{Route, TargetPort};
use tokio::{io::AsyncWriteExt as _, net::TcpStream};

use crate::support::*;

const GET: &str = "GET / HTTP/1.1\r\nHost: cart\r\n\r\n";

fn metrics_port() -> Route {
    Route {
        workload: workload(),
        name: "cart/metrics".into(),
        target: TargetPort::Unresolved,
    }
}

async fn send_to(address: std::net::SocketAddr) -> TcpStream {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(GET.as_bytes()).await.unwrap();
    stream
}

/// A backend that answers with `name`.
async fn named(name: &'static str) -> Backend {
    Backend::start(async move |mut stream: TcpStream| {
        read_head(&mut stream).await;
        respond(&mut stream, name).await;
    })
    .await
}

#[tokio::test]
async fn requests_go_to_the_port_that_they_came_for() {
    let rig = Rig::start().await;
    let (web, metrics) = (named("web").await, named("metrics").await);
    let metrics_address = rig.serve_too(metrics_port()).await;
    let to_web = rig.send(GET).await;
    let to_metrics = send_to(metrics_address).await;
    rig.until_held(2).await;

    rig.ready("a", web.address);
    assert!(read_all(to_web).await.ends_with("web"));
    assert_eq!(rig.held(), 1, "the other port is not ready");
    rig.list(&metrics_port(), "a", metrics.address);
    assert!(read_all(to_metrics).await.ends_with("metrics"));
    assert_eq!((web.accepted(), metrics.accepted()), (1, 1));
    assert_eq!(rig.state()["endpoints"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn all_ports_fill_one_queue() {
    let rig = Rig::with(|settings| settings.max_held = 1).await;
    let metrics_address = rig.serve_too(metrics_port()).await;
    let _held = rig.send(GET).await;
    rig.until_held(1).await;
    let response = read_all(send_to(metrics_address).await).await;
    assert!(response.starts_with("HTTP/1.1 503"), "{response}");
}
