//! HAProxy agent-check answers (configuration manual, section 5.2): a server's agent sends one line of text to each client
//! that connects, then closes the connection. The agent writes them for HAProxy; control reads them from agents made for
//! HAProxy.
//!
//! ```text
//!  75%                 weight, in hundredths of the configured one
//!  up ready 75%        words in any order, between them spaces, tabs or commas
//!  down #disk full     from '#' on it is a description
//! ```

use std::fmt;

/// Longest answer that is parsed, bytes.
pub const LONGEST_BYTES: usize = 512;
/// Weight limit; HAProxy accepts more.
const LARGEST_PERCENT: u16 = 1000;

/// A parsed answer. An absent field leaves the previous value unchanged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct AgentAnswer {
    /// Whether the server can serve.
    pub health: Option<AgentHealth>,
    /// Whether the server receives new connections.
    pub administration: Option<Administration>,
    /// Share of the configured weight, hundredths.
    pub weight_percent: Option<u16>,
    /// Connection limit.
    pub most_connections: Option<u32>,
}

/// Whether a server can serve.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AgentHealth {
    /// The server can serve.
    Up,
    /// The server cannot serve: "down", "failed" or "stopped".
    Down,
}

/// Whether a server receives new connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Administration {
    /// It receives new connections.
    Ready,
    /// It receives only packets of existing connections.
    Drain,
    /// It receives no connections and no health checks.
    Maintenance,
}

/// Why an answer cannot be parsed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotAnAnswer {
    /// The first line has no words.
    #[error("an empty answer")]
    Empty,
    /// More than [`LONGEST_BYTES`].
    #[error("an answer of more than {LONGEST_BYTES} bytes")]
    TooLong,
    /// An unknown word, truncated to 32 characters.
    #[error("{0:?} is unknown in an agent's answer")]
    Word(String),
}

impl AgentAnswer {
    /// Parses the first line of `bytes`.
    pub fn parse(bytes: &[u8]) -> Result<Self, NotAnAnswer> {
        if bytes.len() > LONGEST_BYTES {
            return Err(NotAnAnswer::TooLong);
        }
        let line = bytes.split(|byte| b"\r\n".contains(byte)).next().unwrap_or_default();
        let said = line.split(|&byte| byte == b'#').next().unwrap_or_default();
        let mut words = said.split(|byte| b" \t,".contains(byte)).filter(|word| !word.is_empty()).peekable();
        if words.peek().is_none() {
            return Err(NotAnAnswer::Empty);
        }
        words.try_fold(Self::default(), |answer, word| {
            answer.with(word).ok_or_else(|| NotAnAnswer::Word(String::from_utf8_lossy(word).chars().take(32).collect()))
        })
    }

    fn with(mut self, word: &[u8]) -> Option<Self> {
        let word = std::str::from_utf8(word).ok()?.to_ascii_lowercase();
        match word.as_str() {
            "up" => self.health = Some(AgentHealth::Up),
            "down" | "failed" | "stopped" => self.health = Some(AgentHealth::Down),
            "ready" => self.administration = Some(Administration::Ready),
            "drain" => self.administration = Some(Administration::Drain),
            "maint" => self.administration = Some(Administration::Maintenance),
            other => match (other.strip_suffix('%'), other.strip_prefix("maxconn:")) {
                (Some(percent), _) => self.weight_percent = Some(number(percent)?.min(LARGEST_PERCENT.into()) as u16),
                (None, Some(most)) => self.most_connections = Some(number(most)?),
                (None, None) => return None,
            },
        }
        Some(self)
    }
}

/// Accepts digits only; `parse` alone would accept a sign.
fn number(digits: &str) -> Option<u32> {
    digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| digits.parse().ok())?
}

impl fmt::Display for AgentAnswer {
    /// The wire format, without the line terminator.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let health = self.health.map(|health| match health {
            AgentHealth::Up => "up".to_owned(),
            AgentHealth::Down => "down".to_owned(),
        });
        let administration = self.administration.map(|administration| match administration {
            Administration::Ready => "ready".to_owned(),
            Administration::Drain => "drain".to_owned(),
            Administration::Maintenance => "maint".to_owned(),
        });
        let weight = self.weight_percent.map(|percent| format!("{percent}%"));
        let most = self.most_connections.map(|most| format!("maxconn:{most}"));
        let words: Vec<String> = [health, administration, weight, most].into_iter().flatten().collect();
        f.write_str(&words.join(" "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parse(text: &str) -> Result<AgentAnswer, String> {
        AgentAnswer::parse(text.as_bytes()).map_err(|error| error.to_string())
    }

    #[test]
    fn what_the_manual_lists_is_understood() {
        let nothing = AgentAnswer::default();
        let weight = |percent| AgentAnswer { weight_percent: Some(percent), ..nothing };
        let administration = |administration| AgentAnswer { administration: Some(administration), ..nothing };
        let health = |health| AgentAnswer { health: Some(health), ..nothing };
        assert_eq!(parse("75%\n"), Ok(weight(75)));
        assert_eq!(parse("0%\r\nmore"), Ok(weight(0)));
        assert_eq!(parse("99999%\n"), Ok(weight(1000)));
        assert_eq!(parse("maxconn:30\n"), Ok(AgentAnswer { most_connections: Some(30), ..nothing }));
        assert_eq!(parse("ready\n"), Ok(administration(Administration::Ready)));
        assert_eq!(parse("drain"), Ok(administration(Administration::Drain)));
        assert_eq!(parse("MAINT\n"), Ok(administration(Administration::Maintenance)));
        for down in ["down", "failed", "stopped#out of memory", "down #, 75%"] {
            assert_eq!(parse(down), Ok(health(AgentHealth::Down)), "{down}");
        }
        let all = AgentAnswer { administration: Some(Administration::Ready), ..health(AgentHealth::Up) };
        assert_eq!(parse(" up,\tready  40%\n"), Ok(AgentAnswer { weight_percent: Some(40), ..all }));
    }

    #[test]
    fn what_it_does_not_list_is_refused_and_named() {
        assert_eq!(parse(""), Err("an empty answer".to_owned()));
        assert_eq!(parse("# a word\n"), Err("an empty answer".to_owned()));
        assert_eq!(parse("up perhaps"), Err("\"perhaps\" is unknown in an agent's answer".to_owned()));
        for word in ["-5%", "+5%", "%", "7.5%", "99999999999%", "maxconn:", "maxconn:x", "HTTP/1.1"] {
            assert_eq!(parse(word), Err(format!("{word:?} is unknown in an agent's answer")));
        }
        assert_eq!(parse(&"u".repeat(513)), Err("an answer of more than 512 bytes".to_owned()));
        assert_eq!(AgentAnswer::parse(b"up \xff"), Err(NotAnAnswer::Word("\u{fffd}".to_owned())));
    }

    proptest! {
        #[test]
        fn what_is_written_is_what_is_read(health: Option<bool>, weight in prop::option::of(0..=1000_u16), most: Option<u32>) {
            let health = health.map(|up| if up { AgentHealth::Up } else { AgentHealth::Down });
            let administration = weight.map(|weight| if weight == 0 { Administration::Drain } else { Administration::Ready });
            let answer = AgentAnswer { health, administration, weight_percent: weight, most_connections: most };
            prop_assume!(answer != AgentAnswer::default());
            prop_assert_eq!(parse(&format!("{answer}\n")), Ok(answer));
        }

        #[test]
        fn arbitrary_answers_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..60)) {
            let _ = AgentAnswer::parse(&bytes);
        }
    }
}
