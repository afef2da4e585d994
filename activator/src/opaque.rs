//! Connections whose protocol is not spoken here: each is held as one request and then joined to a backend's.

use std::{
    io,
    pin::Pin,
    task::{Context as TaskContext, Poll, ready},
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf, copy_bidirectional},
    net::TcpStream,
};

use crate::{
    answer::Rejection,
    connection::{Context, tell},
    holder::{Forward, Hold},
    http1, http2,
    metrics::Outcome,
    protocol::Protocol,
    release::{self, Lost},
    server_name,
    stream::ClientStream,
};

/// Holds the connection and forwards it. One that cannot be forwarded is reset, the only answer that every protocol
/// understands.
pub(crate) async fn serve(client: ClientStream, context: Context) {
    // What the client has sent stays in its socket, so nothing of it is kept here.
    match context.hold(0) {
        Ok(hold) => {
            note_server_name(&client, &context).await;
            forward(client, context, hold).await;
        }
        Err(refusal) => reject(&client, &context, &Rejection::Refused(refusal)),
    }
}

/// Has those who look for what wakes a workload know whom a TLS client asks for, if its greeting has come.
async fn note_server_name(client: &ClientStream, context: &Context) {
    if !tracing::enabled!(tracing::Level::DEBUG) {
        return;
    }
    let mut greeting = vec![0; server_name::GREETING];
    // Some of it is here: it has told that this is neither version of HTTP.
    let length = client.peek(&mut greeting).await.unwrap_or_default();
    if let Some(server_name) = server_name::in_greeting(&greeting[..length]) {
        let workload = context.holder.workload();
        tracing::debug!(%workload, server_name, "TLS connection held");
    }
}

/// Does so for a client whose first bytes have not told its protocol. If they do before anything is decided about its
/// place, it goes on as what they say.
pub(crate) async fn serve_silent(client: ClientStream, context: Context) {
    let mut hold = match context.hold(0) {
        Ok(hold) => hold,
        Err(refusal) => return reject(&client, &context, &Rejection::Refused(refusal)),
    };
    let told = tokio::select! {
        told = tell(&client) => told.ok().flatten(),
        () = hold.decided() => None,
        () = context.abort.cancelled() => None,
    };
    match told {
        Some(Protocol::Http1) => http1::serve(client, context, Some(hold)).await,
        Some(Protocol::Http2) => {
            // Its streams take places of their own, and there may be none for long.
            hold.forget();
            http2::serve(client, context).await;
        }
        Some(Protocol::Opaque) => {
            note_server_name(&client, &context).await;
            forward(client, context, hold).await;
        }
        None => forward(client, context, hold).await,
    }
}

async fn forward(mut client: ClientStream, context: Context, hold: Hold) {
    let (backend, hold) = match release::wait(hold, None, &client, &context).await {
        Ok(reached) => reached,
        Err(Lost::Rejected(rejection)) => return reject(&client, &context, &rejection),
        Err(Lost::ClientLeft | Lost::Reset(_)) => return,
    };
    let mut forward = hold.hand_over();
    // Nobody can tell where its first answer begins, or whether there will be any.
    forward.discharge();
    forward.ends_as(Outcome::Forwarded);
    let mut backend = Answering {
        backend,
        forward,
        answered: false,
    };
    tokio::select! {
        // How either side ended is theirs to know: the end has been passed on.
        _ = copy_bidirectional(&mut client, &mut backend) => {}
        () = context.abort.cancelled() => client.reset_on_close(),
    }
}

fn reject(client: &ClientStream, context: &Context, rejection: &Rejection) {
    let reason = rejection.text(context.holder.workload(), context.holder.settings());
    tracing::debug!(reason, "Connection reset");
    client.reset_on_close();
}

/// A backend's connection that notes when its first byte comes.
struct Answering {
    backend: TcpStream,
    forward: Forward,
    answered: bool,
}

impl AsyncRead for Answering {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut TaskContext<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.backend).poll_read(context, buffer))?;
        if !self.answered && buffer.filled().len() > before {
            self.answered = true;
            self.forward.answered();
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Answering {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut TaskContext<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.backend).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut TaskContext<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.backend).poll_flush(context)
    }

    fn poll_shutdown(
        mut self: Pin<&mut Self>,
        context: &mut TaskContext<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.backend).poll_shutdown(context)
    }
}
