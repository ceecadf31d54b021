//! Opening the queues of network interfaces (patent Fig. 11). The switchers map and use what is opened here.

pub mod af_packet;
pub mod af_xdp;
mod socket;
