//! A TCP proxy whose target is switched: the address of the audit log's server, whichever server that is.

use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

pub struct Proxy {
    pub port: u16,
    target: watch::Sender<Option<u16>>,
}

impl Proxy {
    pub async fn start(target: u16) -> Proxy {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let (target, current) = watch::channel(Some(target));
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(forward(client, current.clone()));
            }
        });
        Proxy { port, target }
    }

    /// Sends new connections to that port from now on, and cuts the others; `None` refuses all.
    pub fn switch(&self, target: Option<u16>) {
        self.target.send_replace(target);
    }
}

async fn forward(mut client: TcpStream, mut target: watch::Receiver<Option<u16>>) {
    let Some(port) = *target.borrow_and_update() else { return };
    let Ok(mut server) = TcpStream::connect(("127.0.0.1", port)).await else { return };
    tokio::select! {
        _ = copy_bidirectional(&mut client, &mut server) => {}
        _ = target.changed() => {}
    }
}
