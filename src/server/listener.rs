//! The SQL port: accepts clients, bounded, until it is told to stop.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tracing::Instrument;

use crate::server::Backend;
use crate::server::limits::{HANDSHAKES_SPARE, Limits};
use crate::server::pgwire::{Authentication, Port, stopped};

/// Pause after `accept` failed: mostly a lack of file descriptors, which others give back.
const ACCEPT_RETRY_MILLIS: u64 = 100;

#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    #[error("{0} is no loopback address and no password is set: set one (password_file, TIDEMILL_PASSWORD)")]
    Open(SocketAddr),
    #[error("cannot listen on {address}: {error}; is another server running there?")]
    Bind { address: SocketAddr, error: std::io::Error },
}

/// An open port that no one is served on yet.
pub struct Listener {
    socket: TcpListener,
    address: SocketAddr,
    authentication: Authentication,
    limits: Limits,
}

impl Listener {
    pub async fn bind(
        address: SocketAddr,
        authentication: Authentication,
        limits: Limits,
    ) -> Result<Listener, ListenError> {
        if matches!(authentication, Authentication::Trust) && !address.ip().is_loopback() {
            return Err(ListenError::Open(address));
        }
        let failed = |error| ListenError::Bind { address, error };
        let socket = TcpListener::bind(address).await.map_err(failed)?;
        let address = socket.local_addr().map_err(failed)?;
        Ok(Listener { socket, address, authentication, limits })
    }

    /// Where it listens: the port is chosen by the system when 0 was asked for.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves clients until `stop` turns true; then ends their statements, tells them and waits within a limit.
    pub async fn serve(self, backend: Arc<dyn Backend>, mut stop: watch::Receiver<bool>) {
        let sockets = Arc::new(Semaphore::new(self.limits.connections + HANDSHAKES_SPARE));
        let shutdown = self.limits.shutdown;
        let port = Arc::new(Port::new(backend, self.authentication, self.limits));
        let mut clients = JoinSet::new();
        let client_stop = stop.clone();
        loop {
            tokio::select! {
                accepted = self.socket.accept() => match accepted {
                    Ok((socket, peer)) => {
                        // Beyond the spare places there is no one to tell the client why.
                        let Ok(place) = sockets.clone().try_acquire_owned() else { continue };
                        let (port, stop) = (port.clone(), client_stop.clone());
                        clients.spawn(async move {
                            let span = tracing::info_span!("client", %peer);
                            serve_client(&port, socket, stop).instrument(span).await;
                            drop(place);
                        });
                    }
                    Err(error) => {
                        tracing::warn!(%error, "cannot accept a client");
                        tokio::time::sleep(Duration::from_millis(ACCEPT_RETRY_MILLIS)).await;
                    }
                },
                Some(ended) = clients.join_next() => report(ended),
                () = stopped(&mut stop) => break,
            }
        }
        drop(self.socket);
        let drain = async {
            while let Some(ended) = clients.join_next().await {
                report(ended);
            }
        };
        if tokio::time::timeout(shutdown, drain).await.is_err() {
            tracing::warn!(clients = clients.len(), "clients did not leave within {shutdown:?}");
        }
    }
}

async fn serve_client(port: &Port, socket: TcpStream, stop: watch::Receiver<bool>) {
    if let Err(error) = socket.set_nodelay(true) {
        tracing::debug!(%error, "cannot set TCP_NODELAY");
    }
    port.serve(socket, stop).await;
}

/// A broken invariant ends one connection, not the port; the panic hook has printed where.
fn report(ended: Result<(), tokio::task::JoinError>) {
    if let Err(error) = ended {
        tracing::error!(%error, "a connection's task failed");
    }
}
