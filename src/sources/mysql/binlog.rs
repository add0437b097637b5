//! The binlog as a stream of checked events, from an exact GTID set on.
//!
//! The library parses packets; what it does not do is done here: checksums are compared, a compressed transaction must
//! come out whole, silence is a lost link (the server sends heartbeats), so is the end of the stream, and a panic of
//! the parser on broken bytes is an error.

use std::panic::AssertUnwindSafe;
use std::time::Duration;

use futures::{FutureExt, StreamExt};
use mysql_async::{BinlogStream, BinlogStreamRequest, Conn};
use mysql_common::binlog::consts::{BinlogChecksumAlg, EventType};
use mysql_common::binlog::events::{Event, TransactionPayloadEvent};
use tokio::time::Instant;

use super::check::version_check;
use super::connect::{Fault, Options, READ_SECONDS_MAX, connect, execute, one, within};
use super::gtid::GtidSet;

const HEARTBEAT_SECONDS: u64 = 3;
/// Three heartbeats missed: the link is gone, whatever TCP says.
const SILENCE_SECONDS_MAX: u64 = 3 * HEARTBEAT_SECONDS;
/// What one compressed transaction may claim to hold; the server caps its own at 1 GiB.
const PAYLOAD_BYTES_MAX: u64 = 2 << 30;
/// What MySQL answers when it no longer has what we ask for.
const ER_SOURCE_FATAL_ERROR_READING_BINLOG: u16 = 1236;

pub struct Binlog {
    options: Options,
    stream: BinlogStream,
    last_heard: Instant,
    /// Bytes of events that must still come out of the last compressed transaction.
    payload_left: u64,
}

impl Binlog {
    /// Asks for every transaction that is not in `executed` (`None`: for those from now on); gives the set it starts
    /// from, too.
    ///
    /// `Lost` also when the server does not have all of `executed` yet: a replica that lags behind the one before.
    pub async fn open(
        options: &Options,
        executed: Option<GtidSet>,
        server_id: u32,
    ) -> Result<(Binlog, GtidSet), Fault> {
        let mut conn = connect(options).await?;
        check_server(options, &mut conn).await?;
        let executed = match executed {
            Some(executed) => executed,
            None => gtid_executed(options, &mut conn).await?,
        };
        check_history(options, &mut conn, &executed).await?;
        let nanoseconds = HEARTBEAT_SECONDS * 1_000_000_000;
        let heartbeats =
            format!("SET @source_heartbeat_period = {nanoseconds}, @master_heartbeat_period = {nanoseconds}");
        execute(options, &mut conn, &heartbeats).await?;
        let request = BinlogStreamRequest::new(server_id).with_gtid().with_gtid_set(executed.sids());
        let stream = within(options, "ask for the binlog", READ_SECONDS_MAX, conn.get_binlog_stream(request)).await?;
        let binlog = Binlog { options: options.clone(), stream, last_heard: Instant::now(), payload_left: 0 };
        Ok((binlog, executed))
    }

    /// The next event; dropping the future loses nothing.
    pub async fn next(&mut self) -> Result<Event, Fault> {
        let deadline = self.last_heard + Duration::from_secs(SILENCE_SECONDS_MAX);
        // The parser panics on some broken bytes, before their checksum can be compared.
        let polled = AssertUnwindSafe(self.stream.next()).catch_unwind();
        let event = match tokio::time::timeout_at(deadline, polled).await {
            Err(_) => return Err(self.lost(format!("nothing heard for {SILENCE_SECONDS_MAX} s"))),
            Ok(Err(_panic)) => return Err(self.corrupt("an event that cannot be parsed")),
            Ok(Ok(None)) => return Err(self.lost("the server ended the stream")),
            Ok(Ok(Some(Err(e)))) => return Err(self.failed(e)),
            Ok(Ok(Some(Ok(event)))) => event,
        };
        self.last_heard = Instant::now();
        self.check_checksum(&event)?;
        self.check_payload(&event)?;
        Ok(event)
    }

    fn check_checksum(&self, event: &Event) -> Result<(), Fault> {
        let has_checksum = event.footer().get_checksum_enabled();
        match event.footer().get_checksum_alg() {
            Ok(Some(algorithm @ BinlogChecksumAlg::BINLOG_CHECKSUM_ALG_CRC32)) if has_checksum => {
                let (have, need) = (event.checksum().map(u32::from_le_bytes), event.calc_checksum(algorithm));
                if have != Some(need) {
                    let place = event.header().log_pos();
                    return Err(self.corrupt(format!("an event with a wrong checksum before log position {place}")));
                }
                Ok(())
            }
            Ok(_) => Ok(()),
            Err(e) => Err(self.corrupt(e)),
        }
    }

    /// The library skips a compressed transaction that it cannot decompress: count what comes out of each.
    fn check_payload(&mut self, event: &Event) -> Result<(), Fault> {
        let is_inner = !event.footer().get_checksum_enabled();
        if is_inner {
            let size = event.header().event_size() as u64;
            let left = self.payload_left.checked_sub(size).filter(|_| size > 0);
            self.payload_left = left.ok_or_else(|| self.corrupt("a compressed transaction longer than it says"))?;
            return Ok(());
        }
        if self.payload_left > 0 {
            return Err(self.corrupt(format!("a compressed transaction that misses {} bytes", self.payload_left)));
        }
        if event.header().event_type_raw() == EventType::TRANSACTION_PAYLOAD_EVENT as u8 {
            let payload = event.read_event::<TransactionPayloadEvent<'_>>().map_err(|e| self.corrupt(e))?;
            let size = payload.uncompressed_size();
            if size == 0 || size > PAYLOAD_BYTES_MAX {
                let message = format!(
                    "a compressed transaction says it holds {size} bytes; at most {PAYLOAD_BYTES_MAX} are read"
                );
                let remedy = "set binlog_transaction_compression = OFF on the server and create the source anew";
                return Err(Fault::stop("PAYLOAD_TOO_LARGE", message, remedy));
            }
            self.payload_left = size;
        }
        Ok(())
    }

    fn failed(&self, error: mysql_async::Error) -> Fault {
        match &error {
            mysql_async::Error::Server(e)
                if e.code == ER_SOURCE_FATAL_ERROR_READING_BINLOG && e.message.contains("purged") =>
            {
                gone(&self.options, &e.message)
            }
            mysql_async::Error::Io(mysql_async::IoError::Io(e)) if e.kind() == std::io::ErrorKind::InvalidData => {
                self.corrupt(e)
            }
            _ => self.lost(error),
        }
    }

    fn lost(&self, reason: impl std::fmt::Display) -> Fault {
        self.options.lost("read the binlog", reason)
    }

    fn corrupt(&self, reason: impl std::fmt::Display) -> Fault {
        Fault::Corrupt { server: self.options.server(), reason: reason.to_string() }
    }
}

async fn check_server(options: &Options, conn: &mut Conn) -> Result<(), Fault> {
    let version: String = one(options, conn, "SELECT VERSION()").await?;
    let check = version_check(&version);
    if !check.ok {
        let message = format!("{} runs {version}; needed: {}", options.server(), check.need);
        return Err(Fault::stop("SERVER_UNSUPPORTED", message, "connect the source to a MySQL server"));
    }
    let mode: String = one(options, conn, "SELECT @@GLOBAL.gtid_mode").await?;
    if mode != "ON" {
        let message = format!("{} has gtid_mode = {mode}; needed: ON", options.server());
        return Err(Fault::stop("GTID_OFF", message, "VALIDATE CONNECTION lists the statements that switch it on"));
    }
    Ok(())
}

/// The server must still have all that we have not read, and have all that we have read.
async fn check_history(options: &Options, conn: &mut Conn, executed: &GtidSet) -> Result<(), Fault> {
    let purged = gtid_purged(options, conn).await?;
    if !purged.is_subset(executed) {
        return Err(gone(options, &format!("transactions {} are purged", purged.minus(executed))));
    }
    let theirs = gtid_executed(options, conn).await?;
    if !executed.is_subset(&theirs) {
        let ahead = executed.minus(&theirs);
        let message = format!("{} does not have transactions {ahead}, which were read before", options.server());
        let remedy =
            "if the server lags, let it catch up; if its history was reset or restored, drop and create the source";
        return Err(Fault::stop(DIVERGED, message, remedy));
    }
    Ok(())
}

/// A server without transactions that we have may only lag: the caller waits a while before it believes it.
pub const DIVERGED: &str = "SOURCE_DIVERGED";

fn gone(options: &Options, reason: &str) -> Fault {
    let message = format!("{} no longer has the binlog this source needs: {reason}", options.server());
    let remedy = "drop and create the source, so that its tables are copied anew; keep binlogs longer \
                  (SET PERSIST binlog_expire_logs_seconds = 604800;)";
    Fault::stop("SOURCE_GONE", message, remedy)
}

pub async fn gtid_executed(options: &Options, conn: &mut Conn) -> Result<GtidSet, Fault> {
    gtid_set(options, conn, "SELECT @@GLOBAL.gtid_executed").await
}

pub async fn gtid_purged(options: &Options, conn: &mut Conn) -> Result<GtidSet, Fault> {
    gtid_set(options, conn, "SELECT @@GLOBAL.gtid_purged").await
}

async fn gtid_set(options: &Options, conn: &mut Conn, sql: &str) -> Result<GtidSet, Fault> {
    let text: String = one(options, conn, sql).await?;
    text.parse().map_err(|e| options.lost("read its GTID set", e))
}
