//! What a switcher does between two turns, after one that had nothing to do.

use std::os::fd::BorrowedFd;

use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags};

use shunt_protocol::idle::Idle;

/// How long a switcher that waits doesn't see what can't wake it, in ms: a new configuration, packets of the box's own
/// programs, room for frames that the device didn't take at once. Connections that are over are looked for at each waking.
const LONGEST_WAIT_MS: u8 = 1;

/// The pause.
pub enum Pause {
    /// None: its CPU is its own.
    Spin,
    /// Others run first: its CPU is shared.
    Yield,
    /// Sleep until something comes. One event is enough: the next turn looks at all ports.
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
                // Once for what comes, not for as long as it is there: the socket of an interface that is gone has an
                // error for good. Nothing is missed: what comes after the empty turn is still to be told.
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
