//! PostgreSQL's protocol, version 3: a connection from its first packet to its last.
//!
//! `startup` lets a client in, `connection` reads its messages and runs its statements (`extended`: the protocol with
//! named statements and portals), `rows` sends answers, `wire` is the socket.

mod cancel;
mod connection;
mod extended;
mod parameters;
mod probes;
mod reply;
mod rows;
mod shape;
mod startup;
mod types;
mod wire;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;

pub use connection::stopped;
pub use startup::Authentication;

use crate::server::limits::Limits;
use crate::server::{Backend, sqlstate};
use cancel::CancelKeys;
use connection::{Connection, Fault, Interrupt};
use reply::Failure;
use wire::Wire;

/// What all connections share.
pub struct Port {
    pub backend: Arc<dyn Backend>,
    pub authentication: Authentication,
    pub limits: Limits,
    keys: Arc<CancelKeys>,
    clients: AtomicUsize,
}

impl Port {
    pub fn new(backend: Arc<dyn Backend>, authentication: Authentication, limits: Limits) -> Port {
        Port { backend, authentication, limits, keys: Arc::default(), clients: AtomicUsize::new(0) }
    }

    /// Serves one client until it leaves, breaks the protocol or `stop` turns true.
    pub async fn serve<S: AsyncRead + AsyncWrite + Send>(&self, socket: S, stop: watch::Receiver<bool>) {
        let mut wire = Wire::new(socket, self.limits.write_stall);
        let shake = startup::shake(&mut wire, &self.authentication, &self.keys, || self.seat());
        let (client, _seat) = match tokio::time::timeout(self.limits.handshake, shake).await {
            Ok(Ok(Some(client))) => client,
            Ok(Ok(None)) => return,
            Ok(Err(fault)) => {
                tracing::info!(%fault, "client refused");
                return leave(wire, fault).await;
            }
            Err(_) => {
                let message = format!("no login within {:?}", self.limits.handshake);
                return leave(wire, Fault::Fatal(Failure::fatal(sqlstate::PROTOCOL_VIOLATION, message))).await;
            }
        };
        tracing::debug!(user = client.user, application = client.application, "client connected");
        let session = self.backend.session(&client.user);
        let interrupt = Interrupt::new(client.cancel.requests.clone(), stop);
        let mut connection = Connection::new(wire, session, client.user.clone(), &self.limits, interrupt);
        let end = connection.run().await;
        let (wire, session) = connection.into_parts();
        // An open block ends before the client hears that the connection does.
        drop(session);
        match end {
            Ok(()) => wire.close().await,
            Err(fault) => {
                tracing::debug!(%fault, "client disconnected");
                leave(wire, fault).await;
            }
        }
    }

    /// One of the `connections` places; `None` when all are taken.
    fn seat(&self) -> Option<Seat<'_>> {
        let taken = self.clients.fetch_add(1, Ordering::SeqCst);
        let seat = Seat(&self.clients);
        (taken < self.limits.connections).then_some(seat)
    }
}

/// A client's place among `connections`, given back when dropped.
struct Seat<'a>(&'a AtomicUsize);

impl Drop for Seat<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Tells the client why it is disconnected, where it can still hear.
async fn leave<S: AsyncRead + AsyncWrite + Send>(mut wire: Wire<S>, fault: Fault) {
    let failure = match fault {
        Fault::Wire(wire::WireError::Gone | wire::WireError::Stalled(_)) => return,
        Fault::Wire(error) => Failure::fatal(sqlstate::PROTOCOL_VIOLATION, error.to_string()),
        Fault::Fatal(failure) | Fault::Statement(failure) => failure,
    };
    wire.push(failure.message());
    wire.close().await;
}
