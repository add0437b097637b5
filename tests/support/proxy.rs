//! A TCP proxy on loopback that cuts, swallows or flips what a server sends, when a test says so.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

pub struct Proxy {
    port: u16,
    state: Arc<State>,
    /// A new value ends (`Cut`) or silences (`Swallow`) the links there are.
    order: watch::Sender<Order>,
}

struct State {
    /// Bytes from the server that a new link lets through before it ends.
    cut_after: AtomicUsize,
    /// Bytes until one is flipped, once, on whichever link; 0: none.
    flip_after: AtomicUsize,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Order {
    None,
    Cut,
    Swallow,
}

impl Proxy {
    pub async fn start(server_port: u16) -> Proxy {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let port = listener.local_addr().expect("it is bound").port();
        let state = Arc::new(State { cut_after: AtomicUsize::new(usize::MAX), flip_after: AtomicUsize::new(0) });
        let order = watch::Sender::new(Order::None);
        let (shared, orders) = (state.clone(), order.clone());
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                if let Ok(server) = TcpStream::connect(("127.0.0.1", server_port)).await {
                    tokio::spawn(link(client, server, shared.clone(), orders.subscribe()));
                }
            }
        });
        Proxy { port, state, order }
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// New links end after so many bytes from the server.
    pub fn cut_after(&self, bytes: usize) {
        self.state.cut_after.store(bytes, Ordering::SeqCst);
    }

    /// Ends the links there are.
    pub fn cut_now(&self) {
        self.order.send_replace(Order::Cut);
    }

    /// The links there are stay open and say nothing more.
    pub fn swallow(&self) {
        self.order.send_replace(Order::Swallow);
    }

    /// Flips one bit after so many more bytes from the server.
    pub fn flip(&self, after: usize) {
        self.state.flip_after.store(after, Ordering::SeqCst);
    }
}

async fn link(client: TcpStream, server: TcpStream, state: Arc<State>, mut orders: watch::Receiver<Order>) {
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    tokio::spawn(async move { tokio::io::copy(&mut from_client, &mut to_server).await });
    let mut left = state.cut_after.load(Ordering::SeqCst);
    let mut buffer = vec![0; 16 << 10];
    let mut silent = false;
    while left > 0 {
        let read = tokio::select! {
            read = from_server.read(&mut buffer) => read.unwrap_or(0),
            _ = orders.changed() => {
                match *orders.borrow_and_update() {
                    Order::Swallow => silent = true,
                    _ => return,
                }
                continue;
            }
        };
        let read = read.min(left);
        left -= read;
        if read == 0 {
            return;
        }
        let until_flip = state.flip_after.load(Ordering::SeqCst);
        if until_flip > 0 {
            state.flip_after.store(until_flip.saturating_sub(read), Ordering::SeqCst);
            if until_flip <= read {
                buffer[until_flip - 1] ^= 1;
            }
        }
        if !silent && to_client.write_all(&buffer[..read]).await.is_err() {
            return;
        }
    }
}
