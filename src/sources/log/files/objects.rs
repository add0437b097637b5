//! A bucket of an object store that speaks S3, as a storage of files.
//!
//! Objects are whole when they are first seen and do not change. What a listing costs is the number of its pages:
//! where TiCDC's names tell their order (`CDC000001.json`), those that were read are jumped over.

use std::collections::{BTreeMap, VecDeque};
use std::io::{self, BufRead, Read};
use std::sync::mpsc::{Receiver, sync_channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use object_store::aws::{AmazonS3, AmazonS3Builder};
use object_store::list::{PaginatedListOptions, PaginatedListStore};
use object_store::path::Path;
use object_store::{ClientOptions, GetOptions, ObjectStore, RetryConfig};
use tokio::runtime::Handle;

use super::storage::{FileAt, Lines, Listing, Storage, Whole, below, is_meta};
use crate::config::Secret;
use crate::sources::log::Fault;

/// A listing is paid for.
const POLL: Duration = Duration::from_secs(2);
/// Of one request.
const TIMEOUT: Duration = Duration::from_secs(20);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Of one request that fails for the store's reasons; what is behind is the source's own back-off.
const RETRIES_MAX: usize = 4;
const RETRY_TIMEOUT: Duration = Duration::from_secs(20);
/// What is read of an object at a time.
const CHUNK_BYTES: u64 = 4 << 20;
/// Small objects are asked for before they are opened: so many of a folder, as many again of others.
const AHEAD_OF_FOLDER: usize = 16;
const AHEAD_MAX: usize = 2 * AHEAD_OF_FOLDER;
const AHEAD_BYTES: u64 = 1 << 20;
/// Of what a store says of a fault.
const REASON_CHARS_MAX: usize = 300;
/// Where a machine of a cloud is asked who it is, if nothing else tells.
const MACHINE_CREDENTIALS: &str = "169.254.";

/// Where objects are, and who asks for them.
#[derive(Clone, Debug)]
pub struct Options {
    pub bucket: String,
    /// What all names begin with, without a slash at its end.
    pub prefix: String,
    /// `http://host:port`; `None`: Amazon's of the region. A host that begins with the bucket's name is the bucket's.
    pub endpoint: Option<String>,
    pub region: Option<String>,
    /// `None`: as the process's environment says.
    pub keys: Option<Keys>,
}

#[derive(Clone, Debug)]
pub struct Keys {
    pub access: Secret,
    pub secret: Secret,
}

#[derive(Clone)]
pub struct Objects {
    store: Arc<AmazonS3>,
    bucket: String,
    prefix: String,
    /// On which requests run: the connections that they share live there.
    runtime: Handle,
    /// What was asked for before it is opened, the oldest first.
    ahead: Arc<Mutex<VecDeque<(Path, Asked)>>>,
}

/// A piece that is on its way.
type Asked = Receiver<Result<Piece, object_store::Error>>;

impl Objects {
    /// Asks nothing yet. To be called on the runtime that is to make the requests.
    pub fn new(options: &Options) -> Result<Objects, String> {
        let mut builder = match &options.keys {
            // Nothing of the environment that belongs to other keys.
            Some(keys) => AmazonS3Builder::new()
                .with_access_key_id(keys.access.reveal())
                .with_secret_access_key(keys.secret.reveal()),
            None => AmazonS3Builder::from_env(),
        };
        builder = builder.with_bucket_name(&options.bucket);
        if let Some(region) = &options.region {
            builder = builder.with_region(region);
        }
        let mut client = ClientOptions::new().with_timeout(TIMEOUT).with_connect_timeout(CONNECT_TIMEOUT);
        if let Some(endpoint) = &options.endpoint {
            let host = endpoint.split_once("://").map_or(endpoint.as_str(), |(_, host)| host);
            let of_bucket = host.strip_prefix(&options.bucket).is_some_and(|rest| rest.starts_with('.'));
            builder = builder.with_endpoint(endpoint).with_virtual_hosted_style_request(of_bucket);
            client = client.with_allow_http(endpoint.starts_with("http://"));
        }
        let retry = RetryConfig { max_retries: RETRIES_MAX, retry_timeout: RETRY_TIMEOUT, ..RetryConfig::default() };
        let store = builder.with_client_options(client).with_retry(retry).build().map_err(|e| reason(&e))?;
        let (bucket, prefix) = (options.bucket.clone(), options.prefix.clone());
        Ok(Objects { store: Arc::new(store), bucket, prefix, runtime: Handle::current(), ahead: Arc::default() })
    }

    /// Runs requests where they belong.
    fn ask<T: Send + 'static>(&self, requests: impl Future<Output = T> + Send + 'static) -> Receiver<T> {
        let (sender, receiver) = sync_channel(1);
        self.runtime.spawn(async move {
            // Nobody wants the answer any more where it was dropped.
            let _ = sender.send(requests.await);
        });
        receiver
    }

    /// Likewise, while this thread waits.
    fn wait<T: Send + 'static>(&self, requests: impl Future<Output = T> + Send + 'static) -> Result<T, Fault> {
        self.ask(requests).recv().map_err(|_| self.lost("", "the server ends"))
    }

    fn path(&self, path: &str) -> Result<Path, Fault> {
        Path::parse(below(&self.prefix, path)).map_err(|e| self.lost(path, &e.to_string()))
    }

    fn lost(&self, path: &str, why: &str) -> Fault {
        let at = if path.is_empty() { self.name() } else { below(&self.name(), path) };
        Fault::Lost { action: "read files", reason: format!("{at}: {why}") }
    }

    fn failed(&self, path: &str, error: &object_store::Error) -> Fault {
        self.lost(path, &reason(error))
    }

    /// One page of the listing, behind a key or at another page's mark.
    fn page(&self, behind: Option<String>, mark: Option<String>) -> Result<Page, Fault> {
        let store = Arc::clone(&self.store);
        let prefix = (!self.prefix.is_empty()).then(|| format!("{}/", self.prefix));
        let page = self.wait(async move {
            let options = PaginatedListOptions { offset: behind, page_token: mark, ..PaginatedListOptions::default() };
            store.list_paginated(prefix.as_deref(), options).await
        })?;
        let page = page.map_err(|e| self.failed("", &e))?;
        let objects = page.result.objects.into_iter().map(|object| (String::from(object.location), object.size));
        Ok(Page { objects: objects.collect(), next: page.page_token })
    }

    /// Of an object, and its mark, by which a later piece is known to be of the same.
    fn piece(&self, path: Path, from: u64, to: u64, mark: Option<String>) -> Asked {
        let store = Arc::clone(&self.store);
        self.ask(async move {
            let options = GetOptions::default().with_range(Some(from..to)).with_if_match(mark);
            let got = store.get_opts(&path, options).await?;
            let mark = got.meta.e_tag.clone();
            Ok(Piece { bytes: got.bytes().await?, mark })
        })
    }

    /// What was asked for beforehand.
    fn asked(&self, path: &Path) -> Option<Asked> {
        let mut ahead = self.ahead.lock().expect("no panic while it is held");
        let at = ahead.iter().position(|(asked, _)| asked == path)?;
        ahead.remove(at).map(|(_, asked)| asked)
    }
}

struct Page {
    /// Names and sizes.
    objects: Vec<(String, u64)>,
    /// The mark of the next one.
    next: Option<String>,
}

struct Piece {
    bytes: Bytes,
    mark: Option<String>,
}

impl Storage for Objects {
    fn list(&self, lines: Lines, from: &BTreeMap<String, u64>) -> Result<Listing, Fault> {
        let mut listing = Listing::new();
        let (mut behind, mut mark) = (None, None);
        loop {
            let page = self.page(behind.take(), mark.take())?;
            let prefix = if self.prefix.is_empty() { 0 } else { self.prefix.len() + 1 };
            let mut last = None;
            for (key, bytes) in &page.objects {
                let path = key.get(prefix..).unwrap_or_default();
                let (folder, name) = path.rsplit_once('/').unwrap_or(("", path));
                let first = from.get(folder).copied().unwrap_or(0);
                last = Some((folder, name, first));
                if lines.are_in(name) && !folder.split('/').any(is_meta) {
                    let file = FileAt { name: name.to_string(), bytes: *bytes };
                    listing.entry(folder.to_string()).or_default().add(folder, first, file)?;
                }
            }
            mark = page.next;
            if mark.is_none() {
                return Ok(listing);
            }
            let jump = last.and_then(|(folder, name, first)| Some(below(folder, &behind_name(name, first)?)));
            if let Some(jump) = jump {
                (behind, mark) = (Some(below(&self.prefix, &jump)), None);
            }
        }
    }

    fn open(&self, folder: &str, file: &FileAt, place: u64) -> Result<Box<dyn BufRead + Send>, Fault> {
        let path = self.path(&below(folder, &file.name))?;
        let asked = if place == 0 { self.asked(&path) } else { None };
        let (objects, chunk) = (self.clone(), Bytes::new());
        Ok(Box::new(Reader { objects, path, next: place, end: file.bytes, mark: None, chunk, asked }))
    }

    fn foresee(&self, folder: &str, files: &mut dyn Iterator<Item = &FileAt>) {
        let small = files.take(AHEAD_OF_FOLDER).filter(|file| (1..=AHEAD_BYTES).contains(&file.bytes));
        let mut ahead = self.ahead.lock().expect("no panic while it is held");
        for file in small {
            // A name that cannot be asked for is told when it is opened.
            let Ok(path) = self.path(&below(folder, &file.name)) else { continue };
            if ahead.iter().all(|(asked, _)| *asked != path) {
                let asked = self.piece(path.clone(), 0, file.bytes, None);
                ahead.push_back((path, asked));
                if ahead.len() > AHEAD_MAX {
                    ahead.pop_front();
                }
            }
        }
    }

    fn whole(&self, path: &str, bytes_max: u64) -> Result<Whole, Fault> {
        let (store, at) = (Arc::clone(&self.store), self.path(path)?);
        let object = at.clone();
        let got = self.wait(async move {
            let got = store.get_opts(&object, GetOptions::default()).await?;
            let (end, mark) = (got.meta.size, got.meta.e_tag.clone());
            // A larger one comes in pieces, each within the time of a request.
            let chunk = if end <= CHUNK_BYTES.min(bytes_max) { got.bytes().await? } else { Bytes::new() };
            Ok((end, mark, chunk))
        })?;
        let (end, mark, chunk) = match got {
            Ok((end, ..)) if end > bytes_max => return Ok(Whole::TooLarge),
            Ok(got) => got,
            Err(object_store::Error::NotFound { source, .. }) if !source.to_string().contains(NO_BUCKET) => {
                return Ok(Whole::Missing);
            }
            Err(e) => return Err(self.failed(path, &e)),
        };
        let next = chunk.len() as u64;
        let mut bytes = Vec::with_capacity(end as usize);
        let mut reader = Reader { objects: self.clone(), path: at, next, end, mark, chunk, asked: None };
        reader.read_to_end(&mut bytes).map_err(|e| self.lost(path, &e.to_string()))?;
        Ok(Whole::Bytes(bytes))
    }

    fn look(&self) -> Result<(), Fault> {
        self.page(None, None).map(drop)
    }

    fn may_grow(&self) -> bool {
        false
    }

    fn poll(&self) -> Duration {
        POLL
    }

    fn name(&self) -> String {
        below(&format!("s3://{}", self.bucket), &self.prefix).trim_end_matches('/').to_string()
    }
}

/// An object's bytes, a piece at a time.
struct Reader {
    objects: Objects,
    path: Path,
    next: u64,
    end: u64,
    mark: Option<String>,
    chunk: Bytes,
    /// The first piece, where it was asked for beforehand.
    asked: Option<Asked>,
}

impl BufRead for Reader {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.chunk.is_empty() && self.next < self.end {
            let to = self.end.min(self.next + CHUNK_BYTES);
            // What failed beforehand is asked for again.
            let early = self.asked.take().and_then(|asked| asked.recv().ok()?.ok());
            let piece = match early {
                Some(piece) => piece,
                None => {
                    let asked = self.objects.piece(self.path.clone(), self.next, to, self.mark.take());
                    let piece = asked.recv().map_err(|_| io::Error::other("the server ends"))?;
                    piece.map_err(|e| io::Error::other(reason(&e)))?
                }
            };
            if piece.bytes.len() as u64 != to - self.next {
                return Err(io::Error::other("it is not as long as it was listed"));
            }
            (self.next, self.chunk, self.mark) = (to, piece.bytes, piece.mark);
        }
        Ok(&self.chunk)
    }

    fn consume(&mut self, bytes: usize) {
        let _ = self.chunk.split_to(bytes);
    }
}

impl Read for Reader {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let read = self.fill_buf()?.read(into)?;
        self.consume(read);
        Ok(read)
    }
}

/// A name of TiCDC's before those that are wanted and behind this one: nothing between them is to be read.
fn behind_name(name: &str, wanted: u64) -> Option<String> {
    let (digits, extension) = name.strip_prefix("CDC")?.split_once('.')?;
    let (number, before) = (digits.parse::<u64>().ok()?, wanted.checked_sub(1)?);
    let padded = format!("{before:0width$}", width = digits.len());
    // Where a zero is in front, all numbers up to it have as many digits, and their order is the names'.
    (number < before && digits.starts_with('0') && padded.starts_with('0')).then(|| format!("CDC{padded}.{extension}"))
}

const NO_BUCKET: &str = "NoSuchBucket";
const REFUSED: [&str; 2] = ["status code: 401", "status code: 403"];

/// Why a store did not do it, in its own words where they are short; never what a request was signed with.
fn reason(error: &object_store::Error) -> String {
    use object_store::Error;
    let text = error.to_string();
    let said = |tag: &str| {
        let (_, rest) = text.split_once(&format!("<{tag}>"))?;
        rest.split_once("</").map(|(said, _)| said.to_string())
    };
    let short = |text: &str| text.chars().take(REASON_CHARS_MAX).collect::<String>();
    if text.contains(MACHINE_CREDENTIALS) {
        return "who asks is not known: say ACCESS KEY and SECRET KEY in the connection, or start the server with \
                AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
            .to_string();
    }
    // A listing's faults have no kind of their own.
    let is_refused = matches!(error, Error::PermissionDenied { .. } | Error::Unauthenticated { .. })
        || REFUSED.iter().any(|status| text.contains(status));
    let in_its_words = said("Code").map(|code| short(&format!("{code}: {}", said("Message").unwrap_or_default())));
    match (error, in_its_words) {
        (_, words) if is_refused => {
            let words = words.unwrap_or_else(|| "no reason given".to_string());
            format!("the store refuses it ({words}): the access key needs s3:ListBucket and s3:GetObject")
        }
        (Error::Precondition { .. }, _) => "it has changed while it was read".to_string(),
        (_, Some(words)) => format!("the store answers {words}"),
        (Error::NotFound { .. }, None) => "it is not there".to_string(),
        _ => short(&text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_whose_order_is_their_numbers_are_jumped_over() {
        let jump = |name, wanted| behind_name(name, wanted);
        assert_eq!(jump("CDC000003.json", 1200).as_deref(), Some("CDC001199.json"));
        assert_eq!(jump("CDC00000000000000000003.json", 5).as_deref(), Some("CDC00000000000000000004.json"));
        for (name, wanted) in [
            ("CDC000003.json", 0),
            ("CDC000003.json", 4),
            // One of six digits more sorts before these.
            ("CDC000003.json", 100_002),
            ("CDC3.json", 1200),
            ("log-000003.json", 1200),
            ("CDC_ab_000003.json", 1200),
            ("CDC.index", 5),
        ] {
            assert_eq!(jump(name, wanted), None, "{name} {wanted}");
        }
    }

    #[test]
    fn no_text_of_a_fault_shows_what_a_request_was_signed_with() {
        let body = "403: <Error><Code>SignatureDoesNotMatch</Code><Message>The keys differ.</Message>\
                    <AWSAccessKeyId>AKIAID</AWSAccessKeyId><StringToSign>sign</StringToSign></Error>";
        let denied = object_store::Error::PermissionDenied { path: String::new(), source: body.into() };
        let generic = object_store::Error::Generic { store: "S3", source: body.into() };
        for text in [reason(&denied), reason(&generic)] {
            assert!(text.contains("SignatureDoesNotMatch: The keys differ."), "{text}");
            assert!(!text.contains("AKIAID") && !text.contains("sign"), "{text}");
        }
        let keys = Keys { access: Secret::new("AKIAID"), secret: Secret::new("hunter2") };
        let options =
            Options { bucket: "b".to_string(), prefix: String::new(), endpoint: None, region: None, keys: Some(keys) };
        let shown = format!("{options:?}");
        assert!(!shown.contains("AKIAID") && !shown.contains("hunter2"), "{shown}");
    }
}
