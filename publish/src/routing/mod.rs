//! What the kernel knows of links, addresses, routes and neighbours, as plain values: control's routing daemon follows the
//! kernel and feeds a [`state::State`] with [`event`]s, and [`ranges`] flattens its routes for the switchers.

pub mod event;
pub mod ranges;
pub mod state;
