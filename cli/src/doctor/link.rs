//! Queries an interface's XDP program by netlink (RTM_GETLINK).

use netlink_packet_core::NLM_F_ACK;
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::{LinkAttribute, LinkMessage, LinkXdp};
use netlink_sys::protocols::NETLINK_ROUTE;
use shunt_netlink::RequestSocket;
use std::io;

/// The id of the attached program, if any.
pub fn xdp_program(ifindex: u32) -> io::Result<Option<u32>> {
    let mut question = LinkMessage::default();
    question.header.index = ifindex;
    let mut answer = None;
    RequestSocket::open(NETLINK_ROUTE)?.exchange(RouteNetlinkMessage::GetLink(question), NLM_F_ACK, |message, _| {
        if let RouteNetlinkMessage::NewLink(link) = message {
            answer = Some(link);
        }
    })?;
    let answer = answer.ok_or(io::ErrorKind::InvalidData)?;
    let xdp = answer.attributes.iter().find_map(|attribute| match attribute {
        LinkAttribute::Xdp(xdp) => Some(xdp),
        _ => None,
    });
    Ok(xdp.into_iter().flatten().find_map(|attribute| match attribute {
        LinkXdp::ProgId(id) => Some(*id),
        _ => None,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_loopback_interface_is_known_and_one_that_is_not_there_is_an_error() {
        let loopback = nix::net::if_::if_nametoindex("lo").unwrap();
        assert!(xdp_program(loopback).is_ok());
        assert!(xdp_program(i32::MAX as u32).is_err());
    }
}
