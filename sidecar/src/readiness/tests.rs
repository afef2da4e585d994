//! The schedule by itself, and the checks against sockets.

use tokio::net::TcpListener;

use super::*;

/// Far longer than anything here takes; reached only when something is broken.
const PATIENCE: Duration = Duration::from_secs(20);

const LOOPBACK: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

#[test]
fn an_app_that_starts_is_checked_often_and_noticed_within_a_twentieth_of_its_start() {
    let mut judgement = Judgement::new();
    assert_eq!(judgement.checked(false), FIRST_PAUSE);
    let mut waited = FIRST_PAUSE;
    while waited < Duration::from_mins(1) {
        let pause = judgement.checked(false);
        assert!(
            pause <= FIRST_PAUSE + waited / GROWTH,
            "{pause:?} after {waited:?}"
        );
        assert!(pause <= LAST_PAUSE);
        waited += pause;
    }
    assert_eq!(judgement.checked(false), LAST_PAUSE);
    assert!(!judgement.ready);
}

#[test]
fn one_success_makes_it_ready_and_three_failures_in_a_row_unready() {
    let mut judgement = Judgement::new();
    assert_eq!(judgement.checked(true), CALM_PAUSE);
    assert_eq!(judgement.checked(false), DOUBT_PAUSE);
    assert_eq!(judgement.checked(false), DOUBT_PAUSE);
    assert_eq!(judgement.checked(true), CALM_PAUSE);
    assert_eq!(judgement.checked(false), DOUBT_PAUSE);
    assert_eq!(judgement.checked(false), DOUBT_PAUSE);
    assert!(judgement.ready);
    assert_eq!(judgement.checked(false), FIRST_PAUSE);
    assert!(!judgement.ready);
    assert_eq!(judgement.checked(true), CALM_PAUSE);
    assert!(judgement.ready);
}

/// Answers each connection with `answer`, after it has sent something.
async fn answering(answer: &'static str) -> SocketAddr {
    let listener = TcpListener::bind((LOOPBACK, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = [0; 1024];
            let length = stream.read(&mut request).await.unwrap();
            assert!(
                request[..length].starts_with(b"GET /health?deep=1 HTTP/1.1\r\nHost: 127.0.0.1:")
            );
            stream.write_all(answer.as_bytes()).await.unwrap();
        }
    });
    address
}

#[tokio::test]
async fn the_status_of_the_answer_decides() {
    for (answer, ready) in [
        ("HTTP/1.1 200 OK\r\n\r\n", true),
        ("HTTP/1.0 204 No Content\r\n\r\n", true),
        ("HTTP/1.1 302 Found\r\n\r\n", true),
        ("HTTP/1.1 404 Not Found\r\n\r\n", false),
        ("HTTP/1.1 503 Service Unavailable\r\n\r\n", false),
        ("SSH-2.0-OpenSSH_9.6\r\n", false),
        ("HTTP/1.1", false),
    ] {
        let address = answering(answer).await;
        let checked = timeout(PATIENCE, answers(address, "/health?deep=1"))
            .await
            .unwrap();
        assert_eq!(checked.is_ok(), ready, "{answer}: {checked:?}");
    }
}

#[tokio::test]
async fn the_first_connection_that_is_accepted_makes_the_app_ready() {
    let listener = TcpListener::bind((LOOPBACK, 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    drop(listener);
    let (sender, mut ready) = watch::channel(false);
    let watching = tokio::spawn(watch_app(ReadinessCheck::Tcp { port }, LOOPBACK, sender));
    let listener = TcpListener::bind((LOOPBACK, port)).await.unwrap();
    timeout(PATIENCE, ready.wait_for(|ready| *ready))
        .await
        .unwrap()
        .unwrap();
    drop(listener);
    watching.abort();
}

#[tokio::test]
async fn without_a_check_the_app_is_never_called_ready() {
    let (sender, ready) = watch::channel(false);
    watch_app(ReadinessCheck::None, LOOPBACK, sender).await;
    assert!(!*ready.borrow());
}
