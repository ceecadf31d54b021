//! How far a TCP connection is, as a middle box sees it (RFC 9293 section 3.3.2, RFC 5382): a pure function.

use shunt_packet::tcp::{ACK, FIN, RST, SYN};
use shunt_shmlayout::connections::{Activity, State};
use shunt_shmlayout::mode::Mode;

/// Who sent the packet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Sender {
    /// The client.
    Client,
    /// The backend.
    Backend,
}

/// State and flags after a packet with these TCP flags. A RST doesn't end the connection at once: a blind one (RFC 5961)
/// only shortens the silence after which it ends, and what is sent after it keeps it. As load it counts to the first FIN or
/// RST: what comes after asks nothing of the backend's workers.
#[inline]
pub fn next(before: Activity, flags: u8, sender: Sender, mode: Mode) -> Activity {
    if is_plain(before, flags) {
        return before;
    }
    let mut after = before;
    if flags & RST != 0 {
        after.state = State::Closed;
        after.flags |= Activity::ENDED;
        return after;
    }
    let is_synack = flags & (SYN | ACK) == SYN | ACK;
    let is_ack = flags & (SYN | ACK) == ACK;
    match sender {
        Sender::Backend if is_synack => after.flags |= Activity::ANSWERED,
        // Where the backend's answer takes another way, the client's ACK is all there is to see.
        Sender::Client
            if is_ack
                && before.state == State::Opening
                && (before.flags & Activity::ANSWERED != 0 || !mode.sees_replies()) =>
        {
            after.state = State::Established;
        }
        Sender::Backend | Sender::Client => {}
    }
    // A client's FIN before the handshake is complete is ignored: forged pairs of SYN and FIN would otherwise make entries that
    // outlive those of a SYN flood.
    if flags & FIN != 0 && (sender == Sender::Backend || after.state != State::Opening) {
        after.flags |= if sender == Sender::Client { Activity::CLIENT_FIN } else { Activity::BACKEND_FIN };
        after.flags |= Activity::ENDED;
        let both = Activity::CLIENT_FIN | Activity::BACKEND_FIN;
        after.state = if after.flags & both == both { State::Closed } else { State::Closing };
    }
    after
}

/// Whether a packet is one of the many that leave the state as it is: data and acknowledgements of an open connection.
#[inline]
pub fn is_plain(before: Activity, flags: u8) -> bool {
    flags & (SYN | FIN | RST) == 0 && before.state != State::Opening
}

/// Whether a packet begins a connection (Fig. 6 step 210): a SYN alone, with data or not (RFC 7413).
#[inline]
pub fn begins(flags: u8) -> bool {
    flags & (SYN | ACK | RST | FIN) == SYN
}

#[cfg(test)]
mod tests {
    use super::*;
    use Sender::{Backend, Client};

    fn run(mode: Mode, packets: &[(Sender, u8)]) -> State {
        let opening = Activity { last_seen_ms: 0, state: State::Opening, flags: 0 };
        packets.iter().fold(opening, |at, (sender, flags)| next(at, *flags, *sender, mode)).state
    }

    const OPEN: [(Sender, u8); 2] = [(Backend, SYN | ACK), (Client, ACK)];

    #[test]
    fn opens_with_the_third_packet_of_the_handshake() {
        assert_eq!(run(Mode::Nat, &[(Client, SYN)]), State::Opening);
        assert_eq!(run(Mode::Nat, &[(Client, ACK)]), State::Opening, "nobody has answered");
        assert_eq!(run(Mode::Nat, &OPEN), State::Established);
        assert_eq!(run(Mode::Dsr, &[(Client, ACK)]), State::Established);
    }

    #[test]
    fn closes_when_both_have_finished_in_either_order() {
        let [a, b] = OPEN;
        assert_eq!(run(Mode::Nat, &[a, b, (Client, FIN | ACK)]), State::Closing);
        assert_eq!(run(Mode::Nat, &[a, b, (Client, FIN | ACK), (Backend, ACK)]), State::Closing);
        assert_eq!(run(Mode::Nat, &[a, b, (Client, FIN | ACK), (Backend, FIN | ACK)]), State::Closed);
        assert_eq!(run(Mode::Nat, &[a, b, (Backend, FIN | ACK), (Client, FIN | ACK)]), State::Closed);
    }

    #[test]
    fn a_client_s_fin_before_the_handshake_is_complete_changes_nothing() {
        let [a, b] = OPEN;
        assert_eq!(run(Mode::Nat, &[(Client, FIN)]), State::Opening);
        assert_eq!(run(Mode::Nat, &[a, (Client, FIN)]), State::Opening);
        assert_eq!(run(Mode::Nat, &[a, (Client, FIN | ACK)]), State::Closing, "the last packet of the handshake");
        assert_eq!(run(Mode::Dsr, &[(Client, FIN)]), State::Opening);
        assert_eq!(run(Mode::Nat, &[a, b, (Client, FIN)]), State::Closing);
    }

    #[test]
    fn a_reset_closes_and_a_syn_on_a_live_connection_changes_nothing() {
        let [a, b] = OPEN;
        assert_eq!(run(Mode::Nat, &[a, b, (Client, RST)]), State::Closed);
        assert_eq!(run(Mode::Nat, &[a, b, (Client, SYN)]), State::Established);
    }

    #[test]
    fn only_a_plain_syn_begins() {
        let begin: Vec<u8> = (0..64).filter(|flags| begins(*flags)).collect();
        assert!(begin.iter().all(|flags| flags & SYN != 0 && flags & (ACK | FIN | RST) == 0));
        assert!(begins(SYN) && !begins(SYN | ACK) && !begins(ACK) && !begins(0));
    }
}
