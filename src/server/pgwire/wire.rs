//! A socket as packets: read whole, written in pieces, both bounded.

use std::time::Duration;

use bytes::BytesMut;
use pgwire::messages::startup::{GssEncRequest, SslRequest};
use pgwire::messages::{
    DecodeContext, PgWireBackendMessage, PgWireFrontendMessage, SslNegotiationMetaMessage, cancel::CancelRequest,
};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadHalf, WriteHalf};

use crate::server::limits::{FLUSH_BYTES, PIPELINE_BYTES_MAX, STARTUP_BYTES_MAX};
use crate::server::pgwire::shape;

/// Why a connection ends.
#[derive(Debug, thiserror::Error)]
pub enum WireError {
    #[error("the client is gone")]
    Gone,
    #[error("the client did not read for {0:?}")]
    Stalled(Duration),
    #[error("{what} of {bytes} bytes, at most {max} are read")]
    TooLong { what: &'static str, bytes: usize, max: usize },
    #[error("malformed message: {0}")]
    Malformed(String),
}

/// A message's type byte and its length, or a startup packet's length alone.
pub const HEADER_BYTES: usize = 5;
const LENGTH_BYTES: usize = 4;
/// A length and a protocol version or request code.
const STARTUP_BYTES_MIN: usize = 8;

pub struct Wire<S> {
    reader: ReadHalf<S>,
    writer: WriteHalf<S>,
    inbox: BytesMut,
    outbox: BytesMut,
    context: DecodeContext,
    write_stall: Duration,
}

impl<S: AsyncRead + AsyncWrite + Send> Wire<S> {
    pub fn new(socket: S, write_stall: Duration) -> Wire<S> {
        let (reader, writer) = tokio::io::split(socket);
        let (inbox, outbox) = (BytesMut::new(), BytesMut::new());
        Wire { reader, writer, inbox, outbox, context: DecodeContext::default(), write_stall }
    }

    /// The first packet: an encryption request, a CancelRequest or a startup message.
    pub async fn startup_packet(&mut self) -> Result<PgWireFrontendMessage, WireError> {
        let length = self.length(0, "startup packet", STARTUP_BYTES_MIN, STARTUP_BYTES_MAX).await?;
        self.context.awaiting_frontend_ssl = false;
        self.context.awaiting_frontend_startup = true;
        let mut packet = self.take(length).await?;
        if SslRequest::is_ssl_request_packet(&packet) {
            return Ok(PgWireFrontendMessage::SslNegotiation(
                SslNegotiationMetaMessage::PostgresSsl(SslRequest::new()),
            ));
        }
        if GssEncRequest::is_gss_enc_request_packet(&packet) {
            return Ok(PgWireFrontendMessage::SslNegotiation(SslNegotiationMetaMessage::PostgresGss(
                GssEncRequest::new(),
            )));
        }
        if CancelRequest::is_cancel_request_packet(&packet) && length < STARTUP_BYTES_MIN + 8 {
            return Err(WireError::Malformed("a CancelRequest without a key".into()));
        }
        let message = self.decode(&mut packet)?;
        self.context.awaiting_frontend_startup = false;
        Ok(message)
    }

    /// The next message, at most `max` bytes long. Safe to drop: no byte is lost.
    pub async fn message(&mut self, max: usize) -> Result<PgWireFrontendMessage, WireError> {
        let length = self.length(1, "message", LENGTH_BYTES, max).await?;
        let mut packet = self.take(1 + length).await?;
        shape::check(&packet).map_err(|what| WireError::Malformed(what.into()))?;
        self.decode(&mut packet)
    }

    /// Waits while a statement runs, keeping what the client sends ahead; ends only when the client is gone.
    pub async fn gone(&mut self) -> WireError {
        loop {
            if self.inbox.len() >= PIPELINE_BYTES_MAX {
                return std::future::pending().await;
            }
            if let Err(error) = self.fill().await {
                return error;
            }
        }
    }

    pub fn push(&mut self, message: PgWireBackendMessage) {
        message.encode(&mut self.outbox).expect("what the server says is short, rows are measured before");
    }

    /// One byte outside of any message: the answer to an encryption request.
    pub fn push_byte(&mut self, byte: u8) {
        self.outbox.extend_from_slice(&[byte]);
    }

    pub fn is_full(&self) -> bool {
        self.outbox.len() >= FLUSH_BYTES
    }

    /// Hands all pushed messages to the socket.
    pub async fn flush(&mut self) -> Result<(), WireError> {
        while !self.outbox.is_empty() {
            let write = self.writer.write_buf(&mut self.outbox);
            match tokio::time::timeout(self.write_stall, write).await {
                Err(_) => return Err(WireError::Stalled(self.write_stall)),
                Ok(Ok(0) | Err(_)) => return Err(WireError::Gone),
                Ok(Ok(_)) => {}
            }
        }
        if self.outbox.capacity() > 4 * FLUSH_BYTES {
            // One wide row should not pin its size for the life of the connection.
            self.outbox = BytesMut::new();
        }
        Ok(())
    }

    /// Says goodbye: the last messages, then the end of the stream; errors no longer matter.
    pub async fn close(mut self) {
        if self.flush().await.is_ok() {
            let _ = tokio::time::timeout(self.write_stall, self.writer.shutdown()).await;
        }
    }

    /// The length field at `offset`, checked before anything of the packet is kept.
    async fn length(&mut self, offset: usize, what: &'static str, min: usize, max: usize) -> Result<usize, WireError> {
        while self.inbox.len() < offset + LENGTH_BYTES {
            self.fill().await?;
        }
        debug_assert!(offset + LENGTH_BYTES <= HEADER_BYTES, "a header's length field");
        let field = self.inbox[offset..offset + LENGTH_BYTES].try_into().expect("four bytes");
        let bytes = u32::from_be_bytes(field) as usize;
        match bytes {
            _ if bytes > max => Err(WireError::TooLong { what, bytes, max }),
            _ if bytes < min => Err(WireError::Malformed(format!("{what} of {bytes} bytes"))),
            _ => Ok(bytes),
        }
    }

    async fn take(&mut self, bytes: usize) -> Result<BytesMut, WireError> {
        while self.inbox.len() < bytes {
            self.fill().await?;
        }
        Ok(self.inbox.split_to(bytes))
    }

    async fn fill(&mut self) -> Result<(), WireError> {
        match self.reader.read_buf(&mut self.inbox).await {
            Ok(0) | Err(_) => Err(WireError::Gone),
            Ok(_) => Ok(()),
        }
    }

    fn decode(&self, packet: &mut BytesMut) -> Result<PgWireFrontendMessage, WireError> {
        match PgWireFrontendMessage::decode(packet, &self.context) {
            Ok(Some(message)) => Ok(message),
            Ok(None) => Err(WireError::Malformed("its length field is wrong".into())),
            Err(error) => Err(WireError::Malformed(error.to_string())),
        }
    }
}
