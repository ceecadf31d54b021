//! The TCP connect check.

use std::net::SocketAddr;

use tokio::io::{AsyncRead, AsyncWrite};

use super::{Exchange, Failure};

/// Always passes: the connection is established.
pub(super) struct TcpConnect;

impl Exchange for TcpConnect {
    async fn run(&self, _target: SocketAddr, _stream: impl AsyncRead + AsyncWrite + Unpin) -> Result<(), Failure> {
        Ok(())
    }
}
