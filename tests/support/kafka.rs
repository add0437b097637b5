//! A real Kafka broker for tests: on free ports, with its own data, stopped with the value.
//!
//! `Broker::start` runs `compose/kafka-server`, which fetches the jars once into a cache. Where that cannot be done
//! (no Java, no Maven, no network), [`Broker::start_or_skip`] prints why, and the test that called it passes unrun.

#![allow(dead_code, reason = "each target that includes this uses a part of it")]

use std::fs::File;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use rdkafka::admin::{AdminClient, AdminOptions, NewPartitions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::producer::{BaseRecord, Producer, ThreadedProducer};
use rdkafka::{ClientConfig, Message, Offset, TopicPartitionList};

const START_SECONDS_MAX: u64 = 120;
const STARTS_MAX: usize = 3;
const REQUEST: Duration = Duration::from_secs(20);

pub struct Broker {
    directory: PathBuf,
    port: u16,
    controller_port: u16,
    guarded: Option<Guarded>,
    process: Child,
}

/// A second listener, for clients that prove who they are.
#[derive(Clone, Debug)]
pub struct Guarded {
    /// `SASL_PLAINTEXT`, `SASL_SSL`.
    pub protocol: &'static str,
    /// Lines of the broker's settings.
    pub settings: Vec<String>,
    /// Options of formatting its directory: users of SCRAM are made there.
    pub format: String,
    port: u16,
}

impl Guarded {
    pub fn new(protocol: &'static str, settings: Vec<String>, format: impl Into<String>) -> Guarded {
        Guarded { protocol, settings, format: format.into(), port: 0 }
    }
}

pub type ToKafka = ThreadedProducer<rdkafka::producer::DefaultProducerContext>;

impl Broker {
    /// Tries again on other ports: a free one may be taken before the broker listens on it.
    pub async fn start() -> Result<Broker, String> {
        Broker::start_with(None).await
    }

    async fn start_with(guarded: Option<Guarded>) -> Result<Broker, String> {
        let mut reason = String::new();
        for _ in 0..STARTS_MAX {
            match Broker::try_start(guarded.clone()).await {
                Ok(broker) => return Ok(broker),
                Err(e) => reason = e,
            }
            eprintln!("a broker did not start: {reason}");
        }
        Err(reason)
    }

    async fn try_start(mut guarded: Option<Guarded>) -> Result<Broker, String> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let directory = std::env::temp_dir().join(format!("tidemill-kafka-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&directory).map_err(|e| format!("cannot create {}: {e}", directory.display()))?;
        let [port, controller_port, guarded_port] = free_ports()?;
        if let Some(guarded) = &mut guarded {
            guarded.port = guarded_port;
        }
        let process = spawn(&directory, port, controller_port, guarded.as_ref())?;
        let mut broker = Broker { directory, port, controller_port, guarded, process };
        broker.wait_until_up().await?;
        Ok(broker)
    }

    /// `None`, with a line on stderr that says why, where no broker can be had.
    pub async fn start_or_skip() -> Option<Broker> {
        Broker::start_guarded_or_skip(None).await
    }

    /// With a second listener, where there is one to be.
    pub async fn start_guarded_or_skip(guarded: Option<Guarded>) -> Option<Broker> {
        match Broker::start_with(guarded).await {
            Ok(broker) => Some(broker),
            Err(reason) => {
                let why = format!("a test that needs a Kafka broker: {}", reason.lines().next().unwrap_or_default());
                eprintln!("SKIPPED: {why}");
                not_run(&why);
                None
            }
        }
    }

    /// As clients name it.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// The second listener.
    pub fn guarded_address(&self) -> String {
        format!("127.0.0.1:{}", self.guarded.as_ref().expect("it was started with one").port)
    }

    fn config(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", self.address()).set("log_level", "0");
        config
    }

    fn admin(&self) -> AdminClient<DefaultClientContext> {
        self.config().create().expect("the settings are right")
    }

    pub async fn create_topic(&self, name: &str, partitions: i32, settings: &[(&str, &str)]) {
        let topic =
            settings.iter().fold(NewTopic::new(name, partitions, TopicReplication::Fixed(1)), |t, (k, v)| t.set(k, v));
        let made = self.admin().create_topics([&topic], &options()).await.expect("the broker answers");
        made.into_iter().for_each(|topic| drop(topic.expect("it can be made")));
    }

    /// Until it is gone: a topic of the same name can be made again.
    pub async fn delete_topic(&self, name: &str) {
        let gone = self.admin().delete_topics(&[name], &options()).await.expect("the broker answers");
        gone.into_iter().for_each(|topic| drop(topic.expect("it can be deleted")));
    }

    pub async fn add_partitions(&self, name: &str, total: usize) {
        let more = NewPartitions::new(name, total);
        let made = self.admin().create_partitions([&more], &options()).await.expect("the broker answers");
        made.into_iter().for_each(|topic| drop(topic.expect("they can be added")));
        // Until every new client is told of them.
        let client: BaseConsumer = self.config().create().expect("the settings are right");
        loop {
            let metadata = client.fetch_metadata(Some(name), REQUEST).expect("the broker answers");
            let partitions = metadata.topics()[0].partitions();
            if partitions.len() == total && partitions.iter().all(|partition| partition.leader() >= 0) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// As retention does, at once: what is below `first` is removed.
    pub async fn delete_records(&self, topic: &str, partition: i32, first: i64) {
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(topic, partition, Offset::Offset(first)).expect("an offset");
        let done = self.admin().delete_records(&list, &options()).await.expect("the broker answers");
        done.elements().iter().for_each(|element| element.error().expect("they can be deleted"));
    }

    pub fn producer(&self) -> ToKafka {
        self.config().set("linger.ms", "5").create().expect("the settings are right")
    }

    /// One that begins, commits and aborts transactions.
    pub fn transactional(&self, id: &str) -> ToKafka {
        let producer: ToKafka = self.config().set("transactional.id", id).create().expect("the settings are right");
        producer.init_transactions(REQUEST).expect("the coordinator answers");
        producer
    }

    /// Messages in their order, all of them there when it returns.
    pub fn produce(&self, topic: &str, partition: i32, values: impl IntoIterator<Item = impl AsRef<str>>) {
        let producer = self.producer();
        send(&producer, topic, partition, values);
        producer.flush(REQUEST).expect("the broker takes them");
    }

    /// Everything in the topics, by topic, partition and offset, with keys and values as text.
    pub fn messages(&self, topics: &[&str]) -> Vec<(String, Option<String>, Option<String>)> {
        let consumer: BaseConsumer = self.config().set("group.id", "dump").create().expect("the settings are right");
        let mut found = Vec::new();
        for topic in topics {
            let metadata = consumer.fetch_metadata(Some(topic), REQUEST).expect("the broker answers");
            let partitions: Vec<i32> = metadata.topics()[0].partitions().iter().map(|p| p.id()).collect();
            for partition in partitions {
                let (first, end) = consumer.fetch_watermarks(topic, partition, REQUEST).expect("the broker answers");
                let mut list = TopicPartitionList::new();
                list.add_partition_offset(topic, partition, Offset::Offset(first)).expect("an offset");
                consumer.assign(&list).expect("it exists");
                let mut next = first;
                while next < end {
                    let message = consumer.poll(REQUEST).expect("there is more").expect("it can be read");
                    next = message.offset() + 1;
                    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
                    found.push((topic.to_string(), message.key().map(text), message.payload().map(text)));
                }
            }
        }
        found
    }

    /// kill -9.
    pub fn kill(&mut self) {
        self.process.kill().expect("the broker runs");
        self.process.wait().expect("the broker is a child");
    }

    /// Starts the broker again on its data and its ports, after `kill`.
    pub async fn restart(&mut self) {
        self.process =
            spawn(&self.directory, self.port, self.controller_port, self.guarded.as_ref()).expect("it started before");
        self.wait_until_up().await.expect("it came up before");
    }

    async fn wait_until_up(&mut self) -> Result<(), String> {
        let started = Instant::now();
        loop {
            let client: BaseConsumer = self.config().create().map_err(|e| e.to_string())?;
            let answer =
                tokio::task::spawn_blocking(move || client.fetch_metadata(None, Duration::from_secs(1)).is_ok());
            if answer.await.map_err(|e| e.to_string())? {
                return Ok(());
            }
            let exited = self.process.try_wait().map_err(|e| e.to_string())?;
            if exited.is_some() || started.elapsed() > Duration::from_secs(START_SECONDS_MAX) {
                let output = std::fs::read_to_string(self.directory.join("output")).unwrap_or_default();
                return Err(format!("it did not come up: {output}"));
            }
        }
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        // Fails only where the test has stopped it already.
        let _ = self.process.kill();
        let _ = self.process.wait();
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

/// Hands messages to a producer, waiting where its queue is full.
pub fn send(producer: &ToKafka, topic: &str, partition: i32, values: impl IntoIterator<Item = impl AsRef<str>>) {
    for value in values {
        let value = value.as_ref();
        let mut record = BaseRecord::<str, str>::to(topic).partition(partition).key(value).payload(value);
        while let Err((error, back)) = producer.send(record) {
            assert!(error.to_string().contains("Queue full"), "{error}");
            record = back;
            producer.poll(Duration::from_millis(20));
        }
    }
}

fn options() -> AdminOptions {
    AdminOptions::new().request_timeout(Some(REQUEST)).operation_timeout(Some(REQUEST))
}

/// `make test` prints at its end what it could not run.
pub fn not_run(why: &str) {
    let Ok(path) = std::env::var("TIDEMILL_NOT_RUN") else { return };
    let file = File::options().create(true).append(true).open(path);
    if let Ok(mut file) = file {
        // The line is also on stderr.
        let _ = std::io::Write::write_all(&mut file, format!("{why}\n").as_bytes());
    }
}

fn spawn(directory: &Path, port: u16, controller_port: u16, guarded: Option<&Guarded>) -> Result<Child, String> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("compose/kafka-server");
    let output = File::options().create(true).append(true).open(directory.join("output")).map_err(|e| e.to_string())?;
    Command::new(&script)
        .arg(directory.join("data"))
        .args([port.to_string(), controller_port.to_string()])
        .args(guarded.map(|guarded| listeners(port, controller_port, guarded)).unwrap_or_default())
        .env("KAFKA_FORMAT", guarded.map_or("", |guarded| &guarded.format))
        .stdin(Stdio::null())
        .stdout(output.try_clone().map_err(|e| e.to_string())?)
        .stderr(output)
        .spawn()
        .map_err(|e| format!("cannot run {}: {e}", script.display()))
}

/// The settings of a broker with a second listener.
fn listeners(port: u16, controller_port: u16, guarded: &Guarded) -> Vec<String> {
    let outside = format!("PLAINTEXT://127.0.0.1:{port},GUARDED://127.0.0.1:{}", guarded.port);
    let protocol = guarded.protocol;
    let mut settings = guarded.settings.clone();
    settings.extend([
        format!("listeners={outside},CONTROLLER://127.0.0.1:{controller_port}"),
        format!("advertised.listeners={outside}"),
        format!("listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,GUARDED:{protocol}"),
    ]);
    settings
}

fn free_ports() -> Result<[u16; 3], String> {
    let bind = || TcpListener::bind("127.0.0.1:0").map_err(|e| format!("no free port: {e}"));
    let listeners = [bind()?, bind()?, bind()?];
    let mut ports = [0; 3];
    for (port, listener) in ports.iter_mut().zip(&listeners) {
        *port = listener.local_addr().map_err(|e| e.to_string())?.port();
    }
    Ok(ports)
}
