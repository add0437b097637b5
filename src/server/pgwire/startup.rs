//! From the first packet to the first ReadyForQuery: CancelRequests, SCRAM-SHA-256, no TLS yet.

use pgwire::api::auth::Password;
use pgwire::api::auth::sasl::SCRAM_SHA_256_METHOD;
use pgwire::api::auth::sasl::scram::{SCRAM_ITERATIONS, ScramServerAuth, gen_salted_password, random_nonce};
use pgwire::error::PgWireError;
use pgwire::messages::startup::{
    Authentication as Request, BackendKeyData, NegotiateProtocolVersion, ParameterStatus, PasswordMessageFamily,
    Startup,
};
use pgwire::messages::{PgWireBackendMessage as Message, PgWireFrontendMessage, ProtocolVersion};
use sha2::{Digest, Sha256};
use std::sync::Arc;
use tokio::io::{AsyncRead, AsyncWrite};

use crate::server::limits::AUTHENTICATION_BYTES_MAX;
use crate::server::pgwire::cancel::{CancelKey, CancelKeys};
use crate::server::pgwire::connection::Fault;
use crate::server::pgwire::probes::SERVER_VERSION;
use crate::server::pgwire::reply::{self, Failure};
use crate::server::pgwire::shape;
use crate::server::pgwire::wire::{Wire, WireError};
use crate::server::sqlstate;

/// Who may log in. Keeps a salted hash, never the password.
pub enum Authentication {
    /// Anyone who reaches the port; refused beyond loopback when the port is opened.
    Trust,
    Scram {
        user: String,
        salt: Vec<u8>,
        salted_password: Vec<u8>,
    },
}

impl Authentication {
    pub fn password(user: &str, password: &str) -> Authentication {
        let salt = Sha256::digest(random_nonce())[..16].to_vec();
        let salted_password = gen_salted_password(password, &salt, SCRAM_ITERATIONS);
        Authentication::Scram { user: user.to_string(), salt, salted_password }
    }
}

/// A client that is let in.
pub struct Client {
    pub user: String,
    pub application: String,
    pub cancel: CancelKey,
}

/// Lets a client in, on its seat among the connections; `None` after a CancelRequest.
pub async fn shake<S: AsyncRead + AsyncWrite + Send, Seat>(
    wire: &mut Wire<S>,
    authentication: &Authentication,
    keys: &Arc<CancelKeys>,
    seat: impl Fn() -> Option<Seat>,
) -> Result<Option<(Client, Seat)>, Fault> {
    let startup = loop {
        match wire.startup_packet().await? {
            PgWireFrontendMessage::Startup(startup) => break startup,
            PgWireFrontendMessage::CancelRequest(request) => {
                keys.cancel(&request);
                return Ok(None);
            }
            // TLS and GSS encryption: not offered.
            _ => {
                wire.push_byte(b'N');
                wire.flush().await?;
            }
        }
    };
    let Some(seat) = seat() else {
        return Err(Fault::Fatal(Failure::fatal(sqlstate::TOO_MANY_CONNECTIONS, "too many clients already")));
    };
    let parameter = |name: &str| startup.parameters.get(name).cloned();
    let Some(user) = parameter("user").filter(|user| !user.is_empty()) else {
        return Err(Fault::Fatal(Failure::fatal(sqlstate::PROTOCOL_VIOLATION, "the startup message names no user")));
    };
    if let Some(encoding) = parameter("client_encoding").filter(|encoding| !is_utf8(encoding)) {
        let message = format!("client_encoding {encoding} is not supported: use UTF8");
        return Err(Fault::Fatal(Failure::fatal(sqlstate::FEATURE_NOT_SUPPORTED, message)));
    }
    negotiate(wire, &startup);
    if let Authentication::Scram { user: expected, salt, salted_password } = authentication {
        // An unknown user is told nothing that a wrong password is not.
        let secret = if user == *expected { salted_password.clone() } else { Sha256::digest(random_nonce()).to_vec() };
        scram(wire, &user, Password::new(Some(salt.clone()), secret)).await?;
    }
    let cancel = keys.register();
    let application = parameter("application_name").unwrap_or_default();
    greet(wire, &user, &application, &cancel);
    wire.flush().await?;
    Ok(Some((Client { user, application, cancel }, seat)))
}

/// PostgreSQL's names for it, quotes of some drivers included; plain ASCII is within it.
fn is_utf8(encoding: &str) -> bool {
    let name = encoding.trim_matches('\'').to_ascii_uppercase().replace(['-', '_'], "");
    matches!(name.as_str(), "UTF8" | "UNICODE" | "SQLASCII" | "AUTO")
}

/// A newer minor version, or options of the protocol we do not know, are answered with what we speak.
fn negotiate<S: AsyncRead + AsyncWrite + Send>(wire: &mut Wire<S>, startup: &Startup) {
    let options: Vec<String> = startup.parameters.keys().filter(|name| name.starts_with("_pq_.")).cloned().collect();
    let newest = ProtocolVersion::PROTOCOL3_2;
    if startup.protocol_number_minor > newest.version_number().1 || !options.is_empty() {
        wire.push(Message::NegotiateProtocolVersion(NegotiateProtocolVersion::new(newest.into(), options)));
    }
}

async fn scram<S: AsyncRead + AsyncWrite + Send>(
    wire: &mut Wire<S>,
    user: &str,
    secret: Password,
) -> Result<(), Fault> {
    let refused = |error: PgWireError| match error {
        PgWireError::InvalidPassword(_) => {
            let message = format!("password authentication failed for user \"{user}\"");
            Fault::Fatal(Failure::fatal(sqlstate::INVALID_PASSWORD, message))
        }
        other => Fault::Wire(WireError::Malformed(other.to_string())),
    };
    wire.push(Message::Authentication(Request::SASL(vec![SCRAM_SHA_256_METHOD.to_string()])));
    wire.flush().await?;
    let first = answer(wire).await?;
    if matches!(&first, PasswordMessageFamily::Raw(body) if !shape::is_sasl_initial(body)) {
        return Err(refused(PgWireError::FailedToCoercePasswordMessage));
    }
    let first = first.into_sasl_initial_response().map_err(refused)?;
    if first.auth_method != SCRAM_SHA_256_METHOD {
        return Err(refused(PgWireError::UnsupportedSASLAuthMethod(first.auth_method)));
    }
    let (challenge, exchange) = ScramServerAuth::new()
        .on_client_first_message(first.data.as_deref().unwrap_or_default(), secret)
        .map_err(refused)?;
    wire.push(Message::Authentication(Request::SASLContinue(challenge.into())));
    wire.flush().await?;
    let last = answer(wire).await?.into_sasl_response().map_err(refused)?;
    let proof = exchange.on_client_final_message(&last.data).map_err(refused)?;
    wire.push(Message::Authentication(Request::SASLFinal(proof.into())));
    Ok(())
}

async fn answer<S: AsyncRead + AsyncWrite + Send>(wire: &mut Wire<S>) -> Result<PasswordMessageFamily, Fault> {
    match wire.message(AUTHENTICATION_BYTES_MAX).await? {
        PgWireFrontendMessage::PasswordMessageFamily(message) => Ok(message),
        PgWireFrontendMessage::Terminate(_) => Err(Fault::Wire(WireError::Gone)),
        _ => Err(Fault::Wire(WireError::Malformed("a password message is expected".into()))),
    }
}

fn greet<S: AsyncRead + AsyncWrite + Send>(wire: &mut Wire<S>, user: &str, application: &str, cancel: &CancelKey) {
    wire.push(Message::Authentication(Request::Ok));
    let settings = [
        ("server_version", SERVER_VERSION),
        ("server_encoding", "UTF8"),
        ("client_encoding", "UTF8"),
        ("DateStyle", "ISO, MDY"),
        ("IntervalStyle", "postgres"),
        ("TimeZone", "UTC"),
        ("integer_datetimes", "on"),
        ("standard_conforming_strings", "on"),
        ("default_transaction_read_only", "off"),
        ("in_hot_standby", "off"),
        ("is_superuser", "on"),
        ("session_authorization", user),
        ("application_name", application),
    ];
    for (name, value) in settings {
        wire.push(Message::ParameterStatus(ParameterStatus::new(name.to_string(), value.to_string())));
    }
    wire.push(Message::BackendKeyData(BackendKeyData::new(cancel.process, cancel.secret.clone())));
    wire.push(reply::ready(b'I'));
}
