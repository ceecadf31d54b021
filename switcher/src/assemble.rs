//! Builds an engine from descriptors: maps what the keeper handed over, and resumes where a predecessor stopped.

use crate::egress::Attachment;
use crate::engine::Engine;
use crate::filter::{Filter, Loads};
use crate::port::af_packet::PacketPort;
use crate::port::af_xdp::XdpPort;
use crate::port::store::StorePort;
use crate::port::{Ledger, Pool, Port};
use anyhow::{Context, Result};
use memmap2::{MmapOptions, MmapRaw};
use shunt_protocol::handover::{Handover, PortManifest, SocketKind, StoreDescriptors};
use shunt_protocol::port::Role;
use shunt_shmlayout::access::{Reader, Writer};
use shunt_shmlayout::address::InterfaceId;
use shunt_shmlayout::connections::Owner;
use shunt_shmlayout::regions::{ConnectionsRegion, ControlRegion, KeeperRegion, StoreRegion, SwitcherRegion, Typed};
use std::fs::File;
use std::os::fd::OwnedFd;

/// Builds switcher `number`'s engine. Opens nothing; every failure happens here and none later.
pub fn assemble(number: u16, handover: Handover) -> Result<(Engine, SwitcherRegion<Writer>)> {
    let regions = &handover.regions;
    let control = ControlRegion::<Reader>::from_fd(&regions.control, "control")?.0;
    let (keeper, _) = KeeperRegion::<Reader>::from_fd(&regions.keeper, "keeper")?;
    let connections = ConnectionsRegion::<Writer>::from_fd(&regions.connections, "connections")?.0;
    let region = SwitcherRegion::<Writer>::from_fd(&regions.switcher, &format!("switcher.{number}"))?.0;
    let table = connections.table().context("shared memory connections: its parts don't fit each other")?;

    let ledger = Ledger::new(region.frame_owners, region.journal);
    let ring = handover.manifest.ring;
    let ports = handover.manifest.ports.iter().zip(handover.ports).zip(0u8..);
    let mut ports: Vec<Attachment> = ports
        .map(|((manifest, socket), index)| attach(manifest, socket, index, ring, &ledger, region))
        .collect::<Result<_>>()?;
    let standing: Vec<_> = ports.iter().filter_map(|attachment| attachment.port.standing(&ledger)).collect();
    ports.extend(handover.store.map(|store| attach_store(number, store)).transpose()?);
    let pool = Pool::recover(map_frames(&regions.frames)?, ledger, &standing)?;

    let number = u8::try_from(number).context("there are at most 255 switchers")?;
    let owner = Owner::adopt(table, number, region.counts_in_flight());
    let interfaces = keeper.interfaces.iter().map(|record| record.load()).collect();
    let view = |fd| SwitcherRegion::<Reader>::from_fd(fd, "a switcher's").map(|(region, _)| region);
    let switchers: Vec<_> = handover.switchers.iter().map(view).collect::<Result<_, _>>()?;
    let loads = Loads::new(&switchers, control.loads);
    let filter = Filter::new(owner, control.neighbours, interfaces, region, loads);
    let control = Box::leak(Box::new(control)); // as long-lived as the memory that it views
    Ok((Engine::new(ports, pool, filter, control, region), region))
}

fn attach(
    manifest: &PortManifest,
    socket: OwnedFd,
    index: u8,
    ring: u32,
    ledger: &Ledger,
    region: SwitcherRegion<Writer>,
) -> Result<Attachment> {
    let role = if manifest.receives { Role::Both } else { Role::TransmitOnly };
    let port: Box<dyn Port> = match manifest.kind {
        SocketKind::AfXdp => {
            let port = XdpPort::map(socket, index, ring, ledger, region.sockets)?;
            Box::new(if manifest.busy_polls { port.busy_polling() } else { port })
        }
        SocketKind::AfPacket => Box::new(PacketPort::map(socket, index, ring, role, ledger)?),
    };
    Ok(Attachment { port, interface: InterfaceId(manifest.interface), receives: manifest.receives })
}

fn attach_store(number: u16, store: StoreDescriptors) -> Result<Attachment> {
    let region = StoreRegion::<Writer>::from_fd(&store.region, &format!("store.{number}"))?.0;
    let port = Box::new(StorePort::new(region, store.wake));
    Ok(Attachment { port, interface: InterfaceId::HOST, receives: true })
}

fn map_frames(frames: &OwnedFd) -> Result<MmapRaw> {
    let file = File::from(frames.try_clone()?);
    MmapOptions::new().populate().map_raw(&file).context("map the frame pool")
}
