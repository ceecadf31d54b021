//! What a switcher does between two turns, after one that had nothing to do.

use std::os::fd::BorrowedFd;

use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags};

use crate::handover::WhenIdle;

/// How long a switcher that waits doesn't see what can't wake it, in ms: a new configuration, packets of the box's own
/// programs, connections that are over.
const LONGEST_WAIT_MS: u8 = 1;

/// The pause.
pub enum Pause {
    /// None: its CPU is its own.
    Spin,
    /// Others run first: its CPU is shared.
    Yield,
    /// Sleep until one of these is readable. One event is enough: the next turn looks at all ports.
    Wait(Epoll),
}

impl Pause {
    /// `ports` are what becomes readable with a packet.
    pub fn new<'a>(idle: WhenIdle, ports: impl Iterator<Item = BorrowedFd<'a>>) -> nix::Result<Pause> {
        match idle {
            WhenIdle::Spin => Ok(Pause::Spin),
            WhenIdle::Yield => Ok(Pause::Yield),
            WhenIdle::Wait => {
                let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
                for port in ports {
                    epoll.add(port, EpollEvent::new(EpollFlags::EPOLLIN, 0))?;
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
            // A signal ends it early, and nothing else can go wrong with a descriptor of one's own.
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
        let pause = Pause::new(WhenIdle::Wait, [port.as_fd()].into_iter()).expect("epoll");
        let start = Instant::now();
        (0..20).for_each(|_| pause.make());
        assert!(start.elapsed() >= Duration::from_millis(20), "each slept for a millisecond");
        port.write(1).expect("a signal");
        let start = Instant::now();
        (0..10_000).for_each(|_| pause.make());
        assert!(start.elapsed() < Duration::from_secs(5), "none of ten thousand slept");
    }
}
