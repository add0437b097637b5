//! CancelRequests: a client's key finds the statement that its connection runs.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use pgwire::api::auth::sasl::scram::random_nonce;
use pgwire::messages::cancel::CancelRequest;
use pgwire::messages::startup::SecretKey;
use sha2::{Digest, Sha256};
use tokio::sync::watch;

/// The keys of all connected clients.
#[derive(Default)]
pub struct CancelKeys {
    clients: Mutex<Clients>,
}

#[derive(Default)]
struct Clients {
    last: i32,
    keys: BTreeMap<i32, (SecretKey, watch::Sender<()>)>,
}

/// A connection's key, valid until dropped.
pub struct CancelKey {
    pub process: i32,
    pub secret: SecretKey,
    /// Changes with each CancelRequest for this connection.
    pub requests: watch::Receiver<()>,
    keys: Arc<CancelKeys>,
}

impl CancelKeys {
    pub fn register(self: &Arc<Self>) -> CancelKey {
        let random: [u8; 32] = Sha256::digest(random_nonce()).into();
        let secret = SecretKey::I32(i32::from_be_bytes([random[0], random[1], random[2], random[3]]));
        let (sender, requests) = watch::channel(());
        let mut clients = self.clients.lock().expect("no holder of this lock panics");
        clients.last = clients.last.wrapping_add(1);
        let process = clients.last;
        clients.keys.insert(process, (secret.clone(), sender));
        CancelKey { process, secret, requests, keys: self.clone() }
    }

    /// Cancels what the client runs; a wrong key does nothing and says nothing, as in PostgreSQL.
    pub fn cancel(&self, request: &CancelRequest) {
        let clients = self.clients.lock().expect("no holder of this lock panics");
        if let Some((secret, sender)) = clients.keys.get(&request.pid)
            && secret.eq_value(&request.secret_key)
        {
            sender.send_replace(());
        }
    }
}

impl Drop for CancelKey {
    fn drop(&mut self) {
        self.keys.clients.lock().expect("no holder of this lock panics").keys.remove(&self.process);
    }
}
