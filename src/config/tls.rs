//! How a link to a server is encrypted, and how far the server's certificate is trusted.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tls {
    pub mode: SslMode,
    /// Certificates to trust besides the built-in ones (of Kafka: instead of the system's), a PEM file.
    pub ca: Option<PathBuf>,
}

/// How much of the server's certificate is checked, in MySQL's words.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum SslMode {
    #[default]
    Disabled,
    /// Encrypted, the server's certificate unchecked.
    Required,
    VerifyCa,
    VerifyIdentity,
}

impl SslMode {
    pub const ALL: [SslMode; 4] = [SslMode::Disabled, SslMode::Required, SslMode::VerifyCa, SslMode::VerifyIdentity];

    pub fn word(self) -> &'static str {
        match self {
            SslMode::Disabled => "disabled",
            SslMode::Required => "required",
            SslMode::VerifyCa => "verify_ca",
            SslMode::VerifyIdentity => "verify_identity",
        }
    }

    /// True where certificates to trust are of use.
    pub fn verifies(self) -> bool {
        matches!(self, SslMode::VerifyCa | SslMode::VerifyIdentity)
    }
}
