//! Maps an interface's queues to their NAPI kernel threads, if it has any (generic netlink, family "netdev": Linux,
//! Documentation/netlink/specs/netdev.yaml, from 6.8 on).

use std::io;

use netlink_packet_core::{
    DecodeError, DefaultNla, Emitable, NLM_F_ACK, NlasIterator, ParseableParametrized, parse_u32,
};
use netlink_packet_generic::ctrl::nlas::GenlCtrlAttrs;
use netlink_packet_generic::ctrl::{GenlCtrl, GenlCtrlCmd};
use netlink_packet_generic::{GenlFamily, GenlHeader, GenlMessage};
use netlink_sys::protocols::NETLINK_GENERIC;
use nix::unistd::Pid;

use shunt_netlink::RequestSocket;

/// `NETDEV_CMD_NAPI_GET`, and the attributes of its answers (`NETDEV_A_NAPI_*`).
const NAPI_GET: u8 = 11;
const INTERFACE: u16 = 1;
const ID: u16 = 2;
const THREAD: u16 = 4;

/// What is asked for about an interface, and what is answered about one of its NAPI instances.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Napi {
    interface: u32,
    id: u32,
    thread: Option<u32>,
}

impl GenlFamily for Napi {
    fn family_name() -> &'static str {
        "netdev"
    }

    fn command(&self) -> u8 {
        NAPI_GET
    }

    fn version(&self) -> u8 {
        1
    }
}

impl Napi {
    fn asked(&self) -> DefaultNla {
        DefaultNla::new(INTERFACE, self.interface.to_ne_bytes().to_vec())
    }
}

impl Emitable for Napi {
    fn buffer_len(&self) -> usize {
        self.asked().buffer_len()
    }

    fn emit(&self, buffer: &mut [u8]) {
        self.asked().emit(buffer);
    }
}

impl ParseableParametrized<[u8], GenlHeader> for Napi {
    fn parse_with_param(buffer: &[u8], _: GenlHeader) -> Result<Self, DecodeError> {
        let mut napi = Napi::default();
        for attribute in NlasIterator::new(buffer) {
            let attribute = attribute?;
            match attribute.kind() {
                INTERFACE => napi.interface = parse_u32(attribute.value())?,
                ID => napi.id = parse_u32(attribute.value())?,
                THREAD => napi.thread = Some(parse_u32(attribute.value())?),
                _ => {}
            }
        }
        Ok(napi)
    }
}

/// Kernel threads of the interface with this index, in queue order: drivers register their NAPI instances in it. Empty if
/// the interface has none.
pub(super) fn threads(interface: u32) -> io::Result<Vec<Pid>> {
    let mut requests = RequestSocket::open(NETLINK_GENERIC)?;
    let family = family(&mut requests)?;
    let asked = Napi { interface, ..Napi::default() };
    let question = GenlMessage::new(GenlHeader { cmd: NAPI_GET, version: 1 }, asked, family);
    let mut answers = requests.list(question, |answer| Some(answer.payload))?;
    answers.retain(|napi| napi.interface == interface);
    answers.sort_by_key(|napi| napi.id);
    Ok(answers.iter().filter_map(|napi| napi.thread).map(|pid| Pid::from_raw(pid as i32)).collect())
}

fn family(requests: &mut RequestSocket) -> io::Result<u16> {
    let name = Napi::family_name().to_owned();
    let question = GenlCtrl { cmd: GenlCtrlCmd::GetFamily, nlas: vec![GenlCtrlAttrs::FamilyName(name)] };
    let mut family = None;
    requests.exchange(GenlMessage::from_payload(question), NLM_F_ACK, |answer, _| {
        family = answer.payload.nlas.iter().find_map(|attribute| match attribute {
            GenlCtrlAttrs::FamilyId(id) => Some(*id),
            _ => None,
        });
    })?;
    family.ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))
}
