//! How a switcher pauses after a turn that received nothing.

use std::os::fd::BorrowedFd;

use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags};

use shunt_protocol::idle::Idle;

/// The longest sleep, in ms. It bounds the delay of whatever can't wake a sleeping switcher: a new configuration, packets of the
/// box's own programs, and frames that the device had no room for. Each wake-up also sweeps expired connections.
const LONGEST_WAIT_MS: u8 = 1;

/// The pause.
pub enum Pause {
    /// None: the switcher has a CPU of its own.
    Spin,
    /// Yield to other processes: the CPU is shared.
    Yield,
    /// Sleep until a packet arrives. One event suffices: the next turn polls all ports.
    Wait(Epoll),
}

impl Pause {
    /// `ports` are what becomes readable with a packet.
    pub fn new<'a>(idle: Idle, ports: impl Iterator<Item = BorrowedFd<'a>>) -> nix::Result<Pause> {
        match idle {
            Idle::Spin => Ok(Pause::Spin),
            Idle::Yield => Ok(Pause::Yield),
            Idle::Wait => {
                let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
                // Edge-triggered, because the socket of a removed interface reports an error for ever. No packet is missed: one
                // that arrives after the empty turn triggers a new event.
                let each_once = EpollFlags::EPOLLIN | EpollFlags::EPOLLET;
                for port in ports {
                    epoll.add(port, EpollEvent::new(each_once, 0))?;
                }
                Ok(Pause::Wait(epoll))
            }
        }
    }

    /// Makes it.
    #[inline]
    pub fn make(&self) {
        match self {
            Pause::Spin => std::hint::spin_loop(),
            Pause::Yield => std::thread::yield_now(),
            // Only a signal can interrupt it: the descriptor is ours.
            Pause::Wait(epoll) => drop(epoll.wait(&mut [EpollEvent::empty()], LONGEST_WAIT_MS)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::sys::eventfd::EventFd;
    use std::os::fd::AsFd;
    use std::time::{Duration, Instant};

    #[test]
    fn a_wait_ends_by_a_packet_at_once_and_without_one_soon() {
        let port = EventFd::new().expect("an eventfd");
        let pause = Pause::new(Idle::Wait, [port.as_fd()].into_iter()).expect("epoll");
        let slept = |times: u32, before: &dyn Fn()| {
            let start = Instant::now();
            (0..times).for_each(|_| {
                before();
                pause.make();
            });
            start.elapsed()
        };
        assert!(slept(20, &|| ()) >= Duration::from_millis(20), "each slept for a millisecond");
        let signal = || {
            port.write(1).expect("a signal");
        };
        assert!(slept(2000, &signal) < Duration::from_millis(1000), "none of two thousand slept");
        assert!(slept(20, &|| ()) >= Duration::from_millis(19), "what was told once wakes nobody again");
    }
}
