//! The HTTP of a back-end: one exchange a connection, HTTP/1.0.

use super::backend::Backend;
use anyhow::{Context, Result, bail, ensure};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{sleep_until, timeout};

/// Requests are longer nowhere.
const LONGEST_REQUEST: usize = 2048;
/// For a client that connects and says nothing.
const PATIENCE: Duration = Duration::from_secs(10);

pub type Shared = Arc<Mutex<Backend>>;

fn lock(backend: &Shared) -> MutexGuard<'_, Backend> {
    backend.lock().expect("nobody panics while holding it")
}

/// Answers clients for ever.
pub async fn serve_requests(listener: TcpListener, backend: Shared) {
    loop {
        // Out of descriptors: those who are served give some back.
        let Ok((stream, _)) = listener.accept().await else {
            tokio::time::sleep(Duration::from_millis(10)).await;
            continue;
        };
        let backend = backend.clone();
        tokio::spawn(async move {
            // A client that went away is its own affair: the work is done all the same.
            let _ = serve_one(stream, &backend).await;
        });
    }
}

async fn serve_one(mut stream: TcpStream, backend: &Shared) -> Result<()> {
    timeout(PATIENCE, read_path(&mut stream)).await??;
    let admitted = lock(backend).admit();
    let Some(request) = admitted else {
        // Closed with a reset, as by a server that is overrun.
        stream.set_zero_linger()?;
        return Ok(());
    };
    sleep_until(request.until).await;
    let name = {
        let mut backend = lock(backend);
        backend.finish(&request);
        backend.name().to_owned()
    };
    answer(&mut stream, "200 OK", &format!("{name}\n")).await
}

/// Shows metrics and takes orders for ever.
pub async fn serve_metrics(listener: TcpListener, backend: Shared) {
    loop {
        let Ok((mut stream, _)) = listener.accept().await else {
            tokio::time::sleep(Duration::from_millis(10)).await;
            continue;
        };
        let backend = backend.clone();
        tokio::spawn(async move {
            let Ok(Ok(path)) = timeout(PATIENCE, read_path(&mut stream)).await else { return };
            let _ = match handle_command(&path, &backend) {
                Ok(text) => answer(&mut stream, "200 OK", &text).await,
                Err(error) => answer(&mut stream, "400 Bad Request", &format!("{error:#}\n")).await,
            };
        });
    }
}

/// Does what a path asks for; what to answer.
fn handle_command(path: &str, backend: &Shared) -> Result<String> {
    let (order, value) = path.trim_start_matches('/').split_once('/').unwrap_or((path.trim_start_matches('/'), ""));
    match order {
        "metrics" => Ok(lock(backend).metrics()),
        "factor" => {
            let factor: f64 = value.parse().with_context(|| format!("'{value}' is not a factor"))?;
            ensure!(factor.is_finite() && factor > 0.0, "a factor is above 0, not {factor}");
            lock(backend).slow_down(factor);
            Ok(String::new())
        }
        "burst" => {
            let count: u32 = value.parse().with_context(|| format!("'{value}' is not a number of requests"))?;
            for request in (0..count).map_while(|_| lock(backend).admit()) {
                let backend = backend.clone();
                tokio::spawn(async move {
                    sleep_until(request.until).await;
                    lock(&backend).finish(&request);
                });
            }
            Ok(String::new())
        }
        _ => bail!("there is /metrics, /factor/F and /burst/N, not '{path}'"),
    }
}

/// The path of a request that has arrived whole.
async fn read_path(stream: &mut TcpStream) -> Result<String> {
    let mut request = Vec::with_capacity(256);
    while !request.windows(4).any(|end| end == b"\r\n\r\n") {
        ensure!(request.len() < LONGEST_REQUEST, "the request is longer than {LONGEST_REQUEST} bytes");
        ensure!(stream.read_buf(&mut request).await? > 0, "the request ended early");
    }
    let text = String::from_utf8_lossy(&request);
    Ok(text.split(' ').nth(1).context("no path in the request")?.to_owned())
}

async fn answer(stream: &mut TcpStream, status: &str, body: &str) -> Result<()> {
    let length = body.len();
    let text = format!("HTTP/1.0 {status}\r\nContent-Type: text/plain\r\nContent-Length: {length}\r\n\r\n{body}");
    stream.write_all(text.as_bytes()).await?;
    Ok(stream.shutdown().await?)
}
