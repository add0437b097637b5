//! The SQL port as psql, tokio-postgres and raw sockets see it, over a double of the engine.

mod double;
mod psql;
mod shell;

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use double::{Server, start};
use futures::StreamExt;
use tidemill::server::limits::Limits;
use tidemill::server::listener::{ListenError, Listener};
use tidemill::server::pgwire::Authentication;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, Config, NoTls, SimpleQueryMessage};

fn config(server: &Server) -> Config {
    let mut config = Config::new();
    config.host("127.0.0.1").port(server.address.port()).user("tidemill");
    config
}

async fn connect(config: &Config) -> Client {
    let (client, connection) = config.connect(NoTls).await.unwrap();
    tokio::spawn(connection);
    client
}

async fn trusted() -> (Server, Client) {
    let server = start(Authentication::Trust, Limits::default()).await;
    let client = connect(&config(&server)).await;
    (server, client)
}

#[track_caller]
fn code<T>(result: Result<T, tokio_postgres::Error>) -> String {
    let error = result.err().expect("an error");
    error.code().unwrap_or_else(|| panic!("no SQLSTATE in {error:?}")).code().to_string()
}

/// Waits until the engine holds nothing for anyone any more.
async fn given_back(server: &Server) {
    let deadline = Instant::now() + Duration::from_secs(5);
    while server.engine.streams.load(Ordering::SeqCst) > 0 {
        assert!(Instant::now() < deadline, "a stream is still held");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn parameters_go_in_and_come_back_binary() {
    let (_server, client) = trusted().await;
    let statement = client.prepare("SELECT echo $1 $2 $3").await.unwrap();
    let names: Vec<&str> = statement.params().iter().map(|p| p.name()).collect();
    assert_eq!(names, ["int8", "text", "numeric"]);
    let row = client.query_one(&statement, &[&-5i64, &Some("naïve"), &None::<Raw>]).await.unwrap();
    assert_eq!(row.get::<_, i64>(0), -5);
    assert_eq!(row.get::<_, &str>(1), "naïve");
    assert!(row.get::<_, Option<Raw>>(2).is_none());
    // -12345.678
    let numeric = Raw(vec![0, 3, 0, 1, 0x40, 0, 0, 3, 0, 1, 0x09, 0x29, 0x1a, 0x7c]);
    let row = client.query_one(&statement, &[&0i64, &None::<&str>, &numeric]).await.unwrap();
    assert_eq!(row.get::<_, Raw>(2), numeric);
}

/// A field's bytes as they are on the wire.
#[derive(Debug, PartialEq)]
struct Raw(Vec<u8>);

impl<'a> tokio_postgres::types::FromSql<'a> for Raw {
    fn from_sql(
        _: &tokio_postgres::types::Type,
        raw: &'a [u8],
    ) -> Result<Raw, Box<dyn std::error::Error + Sync + Send>> {
        Ok(Raw(raw.to_vec()))
    }
    fn accepts(_: &tokio_postgres::types::Type) -> bool {
        true
    }
}

impl tokio_postgres::types::ToSql for Raw {
    fn to_sql(
        &self,
        _: &tokio_postgres::types::Type,
        out: &mut bytes::BytesMut,
    ) -> Result<tokio_postgres::types::IsNull, Box<dyn std::error::Error + Sync + Send>> {
        out.extend_from_slice(&self.0);
        Ok(tokio_postgres::types::IsNull::No)
    }
    fn accepts(_: &tokio_postgres::types::Type) -> bool {
        true
    }
    tokio_postgres::types::to_sql_checked!();
}

/// Every type in text and binary form against `tests/golden/wire/types.txt`; `TIDEMILL_BLESS=1` writes it.
#[tokio::test]
async fn types_matrix_matches_the_golden_file() {
    let (_server, client) = trusted().await;
    let texts = client.simple_query("SELECT types").await.unwrap();
    let texts: Vec<_> = texts
        .iter()
        .filter_map(|message| match message {
            SimpleQueryMessage::Row(row) => Some(row),
            _ => None,
        })
        .collect();
    let statement = client.prepare("SELECT types").await.unwrap();
    let rows = client.query(&statement, &[]).await.unwrap();
    assert_eq!((texts.len(), rows.len()), (3, 3));
    let mut lines = String::new();
    for (i, column) in statement.columns().iter().enumerate() {
        lines += &format!("{} {}\n", column.name(), column.type_().name());
        for (text, row) in texts.iter().zip(&rows) {
            let Some(Raw(bytes)) = row.get::<_, Option<Raw>>(i) else {
                assert_eq!(text.get(i), None);
                continue;
            };
            let hex: String = bytes.iter().map(|b| format!("{b:02x}")).collect();
            lines += &format!("    {:?} {hex}\n", text.get(i).unwrap());
        }
    }
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/wire/types.txt");
    if std::env::var_os("TIDEMILL_BLESS").is_some() {
        std::fs::write(path, &lines).unwrap();
    }
    assert_eq!(lines, std::fs::read_to_string(path).unwrap());
}

#[tokio::test]
async fn an_odd_date_prints_and_has_no_binary_form() {
    let (_server, client) = trusted().await;
    let rows = client.simple_query("SELECT odd").await.unwrap();
    let SimpleQueryMessage::Row(row) = &rows[1] else { panic!("{rows:?}") };
    assert_eq!(row.get(0), Some("0000-00-00"));
    let error = client.query("SELECT odd", &[]).await.unwrap_err();
    let error = error.as_db_error().unwrap();
    assert_eq!(error.code(), &SqlState::DATETIME_FIELD_OVERFLOW);
    assert_eq!(error.message(), "column day: DATE '0000-00-00' has no binary form: no calendar has it");
    // The connection goes on.
    assert_eq!(client.query("SELECT numbers 2", &[]).await.unwrap().len(), 2);
}

#[tokio::test]
async fn errors_carry_state_place_hint_and_detail() {
    let (_server, client) = trusted().await;
    let error = client.simple_query("SELECT numbers 1; naïve").await.unwrap_err();
    let error = error.as_db_error().unwrap();
    assert_eq!(error.code(), &SqlState::SYNTAX_ERROR);
    assert_eq!(error.hint(), Some("begin with SELECT"));
    assert_eq!(error.detail(), Some("the double knows few words"));
    assert_eq!(error.position(), Some(&tokio_postgres::error::ErrorPosition::Original(19)));
    // In characters, from the beginning of the whole text.
    let error = client.simple_query("SELECT numbers 1; SELECT 'ï' oops").await.unwrap_err();
    let error = error.as_db_error().unwrap();
    assert_eq!(error.position(), Some(&tokio_postgres::error::ErrorPosition::Original(30)));
    assert_eq!(code(client.query("SELECT late", &[]).await), "22000");
    assert_eq!(code(client.simple_query("COPY t FROM STDIN").await), "0A000");
    assert_eq!(code(client.simple_query("SELECT * FROM pg_catalog.pg_class").await), "0A000");
    assert_eq!(code(client.simple_query("SELECT echo $1 $2 $3").await), "42P02");
    let nothing = client.simple_query(" ; ").await.unwrap();
    assert!(matches!(nothing[..], [SimpleQueryMessage::CommandComplete(0)]), "{nothing:?}");
}

#[tokio::test]
async fn a_failure_fails_the_open_block() {
    let (_server, client) = trusted().await;
    client.simple_query("BEGIN").await.unwrap();
    assert_eq!(code(client.query("SELECT late", &[]).await), "22000");
    assert_eq!(code(client.simple_query("SELECT numbers 1").await), "25P02");
    client.simple_query("ROLLBACK").await.unwrap();
    client.simple_query("SELECT numbers 1").await.unwrap();
}

#[tokio::test]
async fn portals_give_rows_in_pieces() {
    let (server, mut client) = trusted().await;
    let transaction = client.transaction().await.unwrap();
    let portal = transaction.bind("SELECT numbers 5", &[]).await.unwrap();
    let mut seen = vec![];
    for expected in [2, 2, 1, 0] {
        let rows = transaction.query_portal(&portal, 2).await.unwrap();
        assert_eq!(rows.len(), expected);
        seen.extend(rows.iter().map(|row| row.get::<_, i64>(0)));
    }
    assert_eq!(seen, [0, 1, 2, 3, 4]);
    transaction.commit().await.unwrap();
    given_back(&server).await;
}

#[tokio::test]
async fn cancel_stops_a_statement_within_a_second() {
    let (server, client) = trusted().await;
    for statement in ["SELECT forever", "SELECT endless", "SUBSCRIBE TO ticks"] {
        let begun = Instant::now();
        let cancel = client.cancel_token();
        let canceller = tokio::spawn(async move {
            tokio::time::sleep(Duration::from_millis(100)).await;
            cancel.cancel_query(NoTls).await.unwrap();
        });
        let stream = client.simple_query_raw(statement).await.unwrap();
        let last = stream.fold(None, |_, message| async { Some(message) }).await.unwrap();
        assert_eq!(code(last), "57014", "{statement}");
        assert!(begun.elapsed() < Duration::from_secs(1), "{statement}: {:?}", begun.elapsed());
        canceller.await.unwrap();
        given_back(&server).await;
    }
    // One that comes while nothing runs is for nothing.
    client.cancel_token().cancel_query(NoTls).await.unwrap();
    tokio::time::sleep(Duration::from_millis(50)).await;
    client.simple_query("SELECT numbers 1").await.unwrap();
}

#[tokio::test]
async fn subscribe_streams_rows_as_they_come() {
    let server = start(Authentication::Trust, Limits::default()).await;
    let (client, connection) = config(&server).connect(NoTls).await.unwrap();
    let link = tokio::spawn(connection);
    let mut stream = Box::pin(client.simple_query_raw("SUBSCRIBE TO ticks").await.unwrap());
    let mut rows = 0;
    while rows < 3 {
        let next = tokio::time::timeout(Duration::from_secs(2), stream.next()).await.expect("a row in time");
        rows += matches!(next.unwrap().unwrap(), SimpleQueryMessage::Row(_)) as usize;
    }
    link.abort();
    given_back(&server).await;
}

#[tokio::test]
async fn a_client_that_goes_away_is_noticed_without_a_row_to_write() {
    let server = start(Authentication::Trust, Limits::default()).await;
    let (client, connection) = config(&server).connect(NoTls).await.unwrap();
    let link = tokio::spawn(connection);
    tokio::spawn(async move { client.simple_query("SELECT forever").await.map(|_| ()) });
    while server.engine.streams.load(Ordering::SeqCst) == 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    link.abort();
    given_back(&server).await;
}

#[tokio::test]
async fn scram_lets_the_right_password_in_only() {
    let server = start(Authentication::password("tidemill", "sésame"), Limits::default()).await;
    let good = connect(config(&server).password("sésame")).await;
    good.simple_query("SELECT numbers 1").await.unwrap();
    for (user, password) in [("tidemill", "wrong"), ("tidemill", ""), ("root", "sésame")] {
        let mut config = config(&server);
        let refused = config.user(user).password(password).connect(NoTls).await;
        assert_eq!(code(refused), "28P01", "{user} {password:?}");
    }
}

#[tokio::test]
async fn an_open_port_needs_a_password() {
    let address = "0.0.0.0:0".parse().unwrap();
    let open = Listener::bind(address, Authentication::Trust, Limits::default()).await;
    assert!(matches!(open, Err(ListenError::Open(_))));
    let guarded = Authentication::password("tidemill", "secret");
    Listener::bind(address, guarded, Limits::default()).await.unwrap();
}

const STARTUP: &[u8] = b"\0\0\0\x12\0\x03\0\0user\0me\0\0\0";

/// What the server says to these bytes before it closes.
async fn raw(server: &Server, bytes: &[u8]) -> Vec<u8> {
    let mut socket = TcpStream::connect(server.address).await.unwrap();
    socket.write_all(bytes).await.unwrap();
    let mut answer = vec![];
    let read = socket.read_to_end(&mut answer);
    let _ = tokio::time::timeout(Duration::from_secs(5), read).await.expect("the server closes");
    answer
}

#[tokio::test]
async fn malformed_packets_end_one_connection_with_a_reason() {
    let (server, client) = trusted().await;
    let oversized = raw(&server, &[0, 0, 0x40, 0, 0, 3, 0, 0]).await;
    assert!(String::from_utf8_lossy(&oversized).contains("startup packet of 16384 bytes, at most 10000"));
    assert!(String::from_utf8_lossy(&raw(&server, &[0, 0, 0, 3]).await).contains("08P01"));
    assert!(String::from_utf8_lossy(&raw(&server, b"\0\0\0\x09\0\x02\0\0\0").await).contains("08P01"));
    let long = [STARTUP, b"Q\x7f\xff\xff\xff"].concat();
    assert!(String::from_utf8_lossy(&raw(&server, &long).await).contains("message of 2147483647 bytes"));
    client.simple_query("SELECT numbers 1").await.unwrap();
}

/// xorshift64 from a seed that is printed.
fn random_numbers() -> impl FnMut() -> u64 {
    let seed = std::time::UNIX_EPOCH.elapsed().unwrap().as_nanos() as u64;
    println!("seed {seed}");
    let mut state = seed | 1;
    move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    }
}

/// A message of one of these types, with a body of zeros, names and noise.
fn random_message(types: &[u8], random: &mut impl FnMut() -> u64) -> Vec<u8> {
    let mut body = vec![];
    for _ in 0..random() % 24 {
        body.push([0, 0, 1, b'S', 0xff, random() as u8][(random() % 6) as usize]);
    }
    let kind = types[(random() % types.len() as u64) as usize];
    [&[kind][..], &(body.len() as u32 + 4).to_be_bytes(), &body].concat()
}

#[tokio::test]
async fn random_packets_end_their_connection_and_nothing_else() {
    let mut random = random_numbers();
    let (server, client) = trusted().await;
    for _ in 0..300 {
        let messages: Vec<u8> = (0..3).flat_map(|_| random_message(b"QPBDECHSXdcfp", &mut random)).collect();
        raw(&server, &[STARTUP, &messages, b"X\0\0\0\x04"].concat()).await;
    }
    client.simple_query("SELECT numbers 1").await.unwrap();
    let latin: &[u8] = b"Q\0\0\0\x0bS '\xe4'\0X\0\0\0\x04";
    let answer = raw(&server, &[STARTUP, latin].concat()).await;
    assert!(String::from_utf8_lossy(&answer).contains("not UTF-8"));

    // Before a login every answer is a reason.
    let guarded = start(Authentication::password("tidemill", "secret"), Limits::default()).await;
    for _ in 0..100 {
        let random = random_message(b"p", &mut random);
        let first: &[u8] = b"p\0\0\0\x28SCRAM-SHA-256\0\0\0\0\x12n,,n=me,r=clients1";
        for messages in [[STARTUP, &random].concat(), [STARTUP, first, &random].concat()] {
            let answer = raw(&guarded, &messages).await;
            assert!(String::from_utf8_lossy(&answer).contains("08P01"), "{messages:?}: {answer:?}");
        }
    }
}

#[tokio::test]
async fn limits_end_the_slow_the_idle_and_the_many() {
    let limits = Limits {
        connections: 2,
        handshake: Duration::from_millis(200),
        idle_in_transaction: Duration::from_millis(200),
        write_stall: Duration::from_millis(300),
        ..Limits::default()
    };
    let server = start(Authentication::Trust, limits).await;
    let (_first, second) = (connect(&config(&server)).await, connect(&config(&server)).await);
    assert_eq!(code(config(&server).connect(NoTls).await), "53300");
    // A CancelRequest gets through nevertheless.
    second.cancel_token().cancel_query(NoTls).await.unwrap();

    // Idle outside of a block is fine, inside it is not.
    tokio::time::sleep(Duration::from_millis(300)).await;
    second.simple_query("BEGIN").await.unwrap();
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert!(second.is_closed());

    // No login in time.
    let silent = raw(&server, &[]).await;
    assert!(String::from_utf8_lossy(&silent).contains("no login within"));

    // A client that asks for much and reads nothing is closed, and its statement dropped.
    let mut socket = TcpStream::connect(server.address).await.unwrap();
    socket.write_all(STARTUP).await.unwrap();
    socket.write_all(b"Q\0\0\0\x13SELECT endless\0").await.unwrap();
    let deadline = Instant::now() + Duration::from_secs(5);
    while server.engine.streams.load(Ordering::SeqCst) == 0 {
        assert!(Instant::now() < deadline, "the statement never ran");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    given_back(&server).await;
}

#[tokio::test]
async fn a_stopping_server_tells_its_clients() {
    let (server, client) = trusted().await;
    let running = tokio::spawn(async move { client.simple_query("SELECT forever").await });
    let idle = connect(&config(&server)).await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    let begun = Instant::now();
    server.stop.send(true).unwrap();
    assert_eq!(code(running.await.unwrap()), "57P01");
    server.task.await.unwrap();
    assert!(begun.elapsed() < Duration::from_secs(2));
    assert!(idle.simple_query("SELECT numbers 1").await.is_err());
    assert_eq!(server.engine.sessions.load(Ordering::SeqCst), 0);
}
