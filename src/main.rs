//! The command line: flags, then configuration, engine, server and console.

mod flags;

use std::error::Error;
use std::io::{self, IsTerminal};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use clap::Parser;
use tidemill::clock::{self, Reading};
use tidemill::config::{self, Config, Loaded, LogFormat, Secret};
use tidemill::console::{check, demo, prompt, shell};
use tidemill::engine::{self, Engine};
use tidemill::server::limits::Limits;
use tidemill::server::listener::Listener;
use tidemill::server::pgwire::Authentication;
use tidemill::sources::Check;
use tidemill::sources::mysql::check::checks;
use tidemill::sources::mysql::connect;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;
use tracing_subscriber::EnvFilter;

use flags::{Command, Flags, SqlFlags};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

type Failure = Box<dyn Error + Send + Sync>;

const MYSQL_PASSWORD_VARIABLE: &str = "MYSQL_PWD";
const BROKEN: &str = "a dataflow worker has panicked: the server ends, and its next start brings every view back";
/// Threads that wait for such a worker never end by themselves.
const END_WAIT: Duration = Duration::from_secs(1);
const HISTORY_FILE: &str = ".tidemill_history";

fn main() -> ExitCode {
    let runtime = tokio::runtime::Runtime::new().expect("threads can be started");
    let code = runtime.block_on(run());
    runtime.shutdown_timeout(END_WAIT);
    code
}

async fn run() -> ExitCode {
    let done = match Flags::parse().command {
        Command::Serve(flags) => serve(flags.layer(), flags.config, None).await.map(|()| true),
        Command::Demo(flags) => serve(flags.layer(), None, Some(Demo { ends: flags.duration })).await.map(|()| true),
        Command::Sql(flags) => sql(flags).await,
        Command::Check { url } => check_source(&url).await,
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("tidemill: {error}");
            ExitCode::FAILURE
        }
    }
}

/// The demo's own settings.
struct Demo {
    ends: Option<Duration>,
}

/// Serves until SIGTERM, SIGINT or, where the demo is given one, its end.
async fn serve(flags: config::Layer, file: Option<PathBuf>, demo: Option<Demo>) -> Result<(), Failure> {
    let Loaded { config, warnings } = config::load(flags, std::env::vars(), file.as_deref())?;
    start_log(&config)?;
    for warning in warnings {
        tracing::warn!("{warning}");
    }
    let mut stops = Stops::new()?;
    let authentication = match &config.password {
        Some(password) => Authentication::password(&config.user, password.reveal()),
        None => Authentication::Trust,
    };
    let limits = Limits { connections: config.connections_max, ..Limits::default() };
    let address = (config.listen, config.sql_port).into();
    let listener = Listener::bind(address, authentication, limits).await?;
    let address = listener.address();
    let engine = Engine::open(engine_options(&config)).await?;
    if demo.is_some() {
        demo::set_up(&engine, &config.data_dir).await?;
        println!("{}", demo::commands(&config.data_dir, address.port()));
    }
    tracing::info!(%address, "ready: tidemill sql --port {}, or psql -h {} -p {0}", address.port(), address.ip());
    let (stop, stopped) = watch::channel(false);
    let port = tokio::spawn(listener.serve(Arc::new(engine.clone()), stopped));
    let ends = demo.as_ref().and_then(|demo| demo.ends);
    tokio::select! {
        name = stops.next() => tracing::info!("{name}: stopping"),
        () = tokio::time::sleep(ends.unwrap_or_default()), if ends.is_some() => {}
        () = demo::status(&engine), if demo.is_some() => {}
        () = engine.broken() => return Err(BROKEN.into()),
    }
    stop.send_replace(true);
    let stopping = async {
        port.await?;
        engine.shutdown().await;
        Ok(())
    };
    tokio::select! {
        ended = stopping => ended,
        // Whoever asks twice does not want to wait.
        name = stops.next() => Err(format!("{name} again: stopped at once").into()),
    }
}

#[expect(clippy::disallowed_methods, reason = "time comes into the engine as a value, from here")]
fn engine_options(config: &Config) -> engine::Options {
    let started = Instant::now();
    let now = move || Reading {
        wall_ms: SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis() as u64,
        monotonic_ms: started.elapsed().as_millis() as u64,
    };
    let limits = clock::Limits {
        tick_bytes_max: config.tick_bytes_max as usize,
        in_flight_ticks_max: config.ticks_in_flight_max,
        heartbeat_ms: config.heartbeat_millis,
        ..clock::Limits::default()
    };
    engine::Options { data: Some(config.data_dir.clone()), workers: config.workers, limits, now: Arc::new(now) }
}

async fn source_checks(url: &mysql_async::Opts, password: Option<Secret>) -> Result<Vec<Check>, Failure> {
    let (host, user) = (url.ip_or_hostname(), url.user().unwrap_or("root"));
    let options = connect::Options::new(host, url.tcp_port(), user, password);
    Ok(checks(&options).await?)
}

/// The signals that end a server.
struct Stops {
    terminate: Signal,
    interrupt: Signal,
}

impl Stops {
    fn new() -> io::Result<Stops> {
        Ok(Stops { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}

fn start_log(config: &Config) -> Result<(), Failure> {
    let filter = EnvFilter::try_new(&config.log_filter).map_err(|error| format!("log_filter: {error}"))?;
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr);
    match config.log_format {
        LogFormat::Json => log.json().init(),
        LogFormat::Text => log.with_ansi(io::stderr().is_terminal()).init(),
    }
    Ok(())
}

async fn sql(flags: SqlFlags) -> Result<bool, Failure> {
    let password = ["TIDEMILL_PASSWORD", "PGPASSWORD"].iter().find_map(|name| std::env::var(name).ok());
    let options = shell::Options {
        host: flags.host,
        port: flags.port,
        user: flags.user,
        password: password.map(Secret::new),
        command: flags.command,
        history: std::env::var_os("HOME").map(|home| PathBuf::from(home).join(HISTORY_FILE)),
    };
    Ok(shell::run(options).await?)
}

async fn check_source(url: &str) -> Result<bool, Failure> {
    let opts =
        mysql_async::Opts::from_url(url).map_err(|error| format!("{url} is no mysql://user@host:port/: {error}"))?;
    if opts.pass().is_some() {
        return Err(format!("a password in a URL is seen by others: put it into {MYSQL_PASSWORD_VARIABLE}").into());
    }
    let question = format!("Password of {}@{}: ", opts.user().unwrap_or_default(), opts.ip_or_hostname());
    let password = std::env::var(MYSQL_PASSWORD_VARIABLE).ok().map(Secret::new).or_else(|| prompt::password(&question));
    Ok(check::print(&source_checks(&opts, password).await?, io::stdout())?)
}
