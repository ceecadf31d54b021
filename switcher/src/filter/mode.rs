//! What each forwarding mode does to a packet, as [`Mode::traits`] says it. No other file of the filter tells modes apart.

use shunt_packet::{Address, Buffer, Flow, PortBe, quote, rewrite, v4_part};
use shunt_shmlayout::mode::{Mode, Replies, ToBackend};
use shunt_shmlayout::service::{BackendView, ServiceView};

/// Re-writes a client's packet, or an ICMP error's own headers, for the backend. Returns the frame's length then, from where
/// the buffer starts.
#[inline]
pub(super) fn rewrite_to_backend(mode: Mode, frame: &mut Buffer<'_>, flow: &Flow, backend: &BackendView) -> usize {
    let traits = mode.traits();
    match traits.to_backend {
        ToBackend::Unchanged => {}
        ToBackend::BackendAsDestination => {
            rewrite::nat_destination(frame, flow, v4_part(backend.address), backend.port);
        }
    }
    if traits.routes {
        rewrite::decrement_ttl(frame, flow);
    }
    usize::from(flow.end)
}

/// Re-writes a backend's packet for the client.
#[inline]
pub(super) fn rewrite_to_client(mode: Mode, frame: &mut [u8], flow: &Flow, service: &ServiceView) {
    let traits = mode.traits();
    match traits.replies {
        Replies::Bypass => {}
        Replies::ServiceAsSource => rewrite::nat_source(frame, flow, v4_part(service.address), service.port),
    }
    if traits.routes {
        rewrite::decrement_ttl(frame, flow);
    }
}

/// Re-writes an ICMP error about a backend's packet for the backend: it quotes what the client was sent, and the backend
/// is to see what it sent itself. Returns the frame's length as [`rewrite_to_backend`] does.
pub(super) fn rewrite_error_to_backend(
    mode: Mode,
    frame: &mut Buffer<'_>,
    flow: &Flow,
    backend: &BackendView,
) -> usize {
    match mode.traits().replies {
        Replies::Bypass => {}
        Replies::ServiceAsSource => quote::nat_source(frame, flow, v4_part(backend.address), backend.port),
    }
    rewrite_to_backend(mode, frame, flow, backend)
}

/// Re-writes an ICMP error about a client's packet for the client, which is to see what it sent itself. A router keeps its
/// own address: it says where on the way the trouble is.
pub(super) fn rewrite_error_to_client(
    mode: Mode,
    frame: &mut [u8],
    flow: &Flow,
    service: &ServiceView,
    backend: &BackendView,
) {
    let traits = mode.traits();
    match traits.to_backend {
        ToBackend::Unchanged => {}
        ToBackend::BackendAsDestination => {
            quote::nat_destination(frame, flow, v4_part(service.address), service.port);
        }
    }
    if flow.source == backend.address {
        rewrite_to_client(mode, frame, flow, service);
    } else if traits.routes {
        rewrite::decrement_ttl(frame, flow);
    }
}

/// Where a client's packet is addressed to when it reaches the backend.
pub(super) fn end_at_backend(mode: Mode, service: &ServiceView, backend: &BackendView) -> (Address, PortBe) {
    match mode.traits().to_backend {
        ToBackend::Unchanged => (service.address, service.port),
        ToBackend::BackendAsDestination => (backend.address, backend.port),
    }
}
