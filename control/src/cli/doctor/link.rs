//! Which XDP program an interface has, asked of the kernel by netlink (RTM_GETLINK).

use netlink_packet_core::{NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::{LinkAttribute, LinkMessage, LinkXdp};
use netlink_sys::protocols::NETLINK_ROUTE;
use netlink_sys::{Socket, SocketAddr};
use std::io;

/// The answer about one link fits well into it.
const ANSWER_BYTES: usize = 64 << 10;

/// The id of the program that is attached, if one is.
pub fn xdp_program(ifindex: u32) -> io::Result<Option<u32>> {
    let mut question = LinkMessage::default();
    question.header.index = ifindex;
    let answer = ask(RouteNetlinkMessage::GetLink(question))?;
    let xdp = answer.attributes.iter().find_map(|attribute| match attribute {
        LinkAttribute::Xdp(xdp) => Some(xdp),
        _ => None,
    });
    Ok(xdp.into_iter().flatten().find_map(|attribute| match attribute {
        LinkXdp::ProgId(id) => Some(*id),
        _ => None,
    }))
}

fn ask(question: RouteNetlinkMessage) -> io::Result<LinkMessage> {
    let mut socket = Socket::new(NETLINK_ROUTE)?;
    socket.bind_auto()?;
    socket.connect(&SocketAddr::new(0, 0))?;
    let mut header = NetlinkHeader::default();
    header.flags = NLM_F_REQUEST;
    let mut message = NetlinkMessage::new(header, NetlinkPayload::from(question));
    message.finalize();
    let mut bytes = vec![0; message.buffer_len()];
    message.serialize(&mut bytes);
    socket.send(&bytes, 0)?;
    let mut buffer = vec![0; ANSWER_BYTES];
    let received = socket.recv(&mut &mut buffer[..], 0)?;
    let answer = NetlinkMessage::<RouteNetlinkMessage>::deserialize(&buffer[..received]).map_err(io::Error::other)?;
    match answer.payload {
        NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewLink(link)) => Ok(link),
        NetlinkPayload::Error(error) => Err(error.to_io()),
        _ => Err(io::ErrorKind::InvalidData.into()),
    }
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
