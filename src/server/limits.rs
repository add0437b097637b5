//! Every limit of a connection, with its unit in its name.

use std::time::Duration;

/// Clients at the same time; further ones are told 53300.
pub const CONNECTIONS_MAX: usize = 200;
/// Sockets beyond `CONNECTIONS_MAX` that may be shaking hands (a CancelRequest must get through); the rest are closed.
pub const HANDSHAKES_SPARE: usize = 32;
/// A startup packet, as in PostgreSQL.
pub const STARTUP_BYTES_MAX: usize = 10_000;
/// Any packet before the client is authenticated.
pub const AUTHENTICATION_BYTES_MAX: usize = 10_000;
/// Any other packet from a client.
pub const MESSAGE_BYTES_MAX: usize = 16 << 20;
/// From the accepted socket to the first ReadyForQuery.
pub const HANDSHAKE_SECONDS_MAX: u64 = 10;
/// Without a message inside a transaction block, which holds its `Ts`.
pub const IDLE_IN_TRANSACTION_SECONDS_MAX: u64 = 60;
/// Written bytes are handed to the socket from here on.
pub const FLUSH_BYTES: usize = 64 << 10;
/// One row on the wire.
pub const ROW_BYTES_MAX: usize = 64 << 20;
/// A socket that takes no byte for so long: its client does not read, and is closed.
pub const WRITE_STALL_SECONDS_MAX: u64 = 20;
/// What a client may send ahead while a statement runs, before the socket is no longer read.
pub const PIPELINE_BYTES_MAX: usize = 64 << 10;
/// Prepared statements of one connection; as many portals.
pub const STATEMENTS_MAX: usize = 1_000;
/// How long a stopping server waits for its connections to end.
pub const SHUTDOWN_SECONDS_MAX: u64 = 5;

/// The limits of a listener; tests make them small.
#[derive(Clone, Debug)]
pub struct Limits {
    pub connections: usize,
    pub message_bytes: usize,
    pub handshake: Duration,
    pub idle_in_transaction: Duration,
    pub write_stall: Duration,
    pub shutdown: Duration,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            connections: CONNECTIONS_MAX,
            message_bytes: MESSAGE_BYTES_MAX,
            handshake: Duration::from_secs(HANDSHAKE_SECONDS_MAX),
            idle_in_transaction: Duration::from_secs(IDLE_IN_TRANSACTION_SECONDS_MAX),
            write_stall: Duration::from_secs(WRITE_STALL_SECONDS_MAX),
            shutdown: Duration::from_secs(SHUTDOWN_SECONDS_MAX),
        }
    }
}
