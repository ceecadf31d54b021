//! Standard error, for messages and the log. A write never blocks or fails its process: a full disk or a pipe without a
//! reader loses lines. The log counts lost lines and reports the count once there is room again.

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{MsgFlags, send};
use std::fmt::Display;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

/// Bytes that a write to a pipe transfers atomically (PIPE_BUF, pipe(7)).
const ATOMIC_BYTES: usize = 4096;
/// Requested capacity of a log pipe, bytes, to buffer bursts in the kernel. The default limit of an unprivileged user.
const PIPE_BYTES: i32 = 1 << 20;

static LOG: OnceLock<Mutex<Log>> = OnceLock::new();

/// Sends the process's log to standard error, at `RUST_LOG`'s level, "info" by default. Call it once, before the process
/// drops the right to open its standard error.
pub fn start_log(with_module: bool) {
    LOG.get_or_init(|| Mutex::new(Log::over(io::stderr().as_fd())));
    env_logger::Builder::from_env(env_logger::Env::default().default_filter_or("info"))
        .format_target(with_module)
        .target(env_logger::Target::Pipe(Box::new(Lines)))
        .init();
}

/// Prints a line to standard error, through the log once that is started. Errors are ignored: there is nowhere to report them.
pub fn say(text: impl Display) {
    let line = format!("{text}\n");
    match LOG.get() {
        Some(log) => lock(log).put(line.as_bytes()),
        None => drop(io::stderr().write_all(line.as_bytes())),
    }
}

fn lock(log: &Mutex<Log>) -> MutexGuard<'_, Log> {
    log.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The target of env_logger, which writes a whole line per call.
struct Lines;

impl Write for Lines {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        if let Some(log) = LOG.get() {
            lock(log).put(line);
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A log with non-blocking writes. The kernel holds the queue, so there is nothing to flush at exit.
struct Log {
    out: File,
    is_socket: bool,
    /// Lines lost since the last successful write.
    lost: u64,
}

impl Log {
    fn over(fd: BorrowedFd<'_>) -> Self {
        let copy = File::from(fd.try_clone_to_owned().expect("a free descriptor at the start of a process"));
        let kind = copy.metadata().map(|metadata| metadata.file_type());
        let is_kind = |is: fn(&std::fs::FileType) -> bool| kind.as_ref().is_ok_and(is);
        // O_NONBLOCK on the inherited file description would affect every process that shares it, so pipes and terminals are
        // reopened. A regular file keeps its description, and with it the shared offset.
        let blocks = is_kind(FileTypeExt::is_fifo) || is_kind(FileTypeExt::is_char_device);
        let out = if blocks { reopen(&copy).unwrap_or(copy) } else { copy };
        if is_kind(FileTypeExt::is_fifo) {
            // A smaller queue suffices.
            let _ = fcntl(&out, FcntlArg::F_SETPIPE_SZ(PIPE_BYTES));
        }
        Self { out, is_socket: is_kind(FileTypeExt::is_socket), lost: 0 }
    }

    fn put(&mut self, line: &[u8]) {
        if self.lost > 0 && self.write(format!("{} log lines lost\n", self.lost).as_bytes()).is_ok() {
            self.lost = 0;
        }
        if self.lost > 0 || self.write(line).is_err() {
            self.lost += 1;
        }
    }

    fn write(&mut self, mut line: &[u8]) -> io::Result<()> {
        while !line.is_empty() {
            let piece = &line[..line.len().min(ATOMIC_BYTES)];
            match self.write_piece(piece) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => line = &line[written..],
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn write_piece(&mut self, piece: &[u8]) -> io::Result<usize> {
        if self.is_socket {
            let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
            return Ok(send(self.out.as_raw_fd(), piece, flags)?);
        }
        // For a pipe that could not be reopened: a writable pipe has room for ATOMIC_BYTES.
        let mut ready = [PollFd::new(self.out.as_fd(), PollFlags::POLLOUT)];
        if poll(&mut ready, PollTimeout::ZERO)? == 0 {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        self.out.write(piece)
    }
}

/// Opens the target of `file` again, with a non-blocking file description of its own.
fn reopen(file: &File) -> io::Result<File> {
    let flags = OFlag::O_NONBLOCK | OFlag::O_NOCTTY;
    OpenOptions::new().write(true).custom_flags(flags.bits()).open(format!("/proc/self/fd/{}", file.as_raw_fd()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;
    use std::os::unix::net::UnixStream;

    const LINES: u64 = 20_000;

    /// Puts more than fits, reads what is there, and puts one more.
    fn loses_and_counts(writer: BorrowedFd<'_>, reader: &mut impl Read) {
        let mut log = Log::over(writer);
        (0..LINES).for_each(|number| log.put(format!("line {number}, {}\n", "x".repeat(100)).as_bytes()));
        assert!(log.lost > 0, "everything found room");
        let lost = log.lost;
        let mut taken = vec![0; 64 << 10];
        let length = reader.read(&mut taken).expect("what was queued");
        log.put(b"last\n");
        assert_eq!(log.lost, 0);
        drop(log);
        let mut rest = Vec::new();
        let mut buffer = [0; 4096];
        while !rest.ends_with(b"last\n") {
            let length = reader.read(&mut buffer).expect("the rest");
            rest.extend_from_slice(&buffer[..length]);
        }
        let text = String::from_utf8([&taken[..length], &rest].concat()).expect("text");
        assert!(text.ends_with(&format!("\n{lost} log lines lost\nlast\n")), "{}", &text[text.len() - 300..]);
        assert_eq!(text.matches("line ").count() as u64 + lost, LINES);
    }

    #[test]
    fn a_pipe_that_nobody_reads_loses_lines_and_stops_nobody() {
        let (mut reader, writer) = io::pipe().expect("a pipe");
        loses_and_counts(writer.as_fd(), &mut reader);
    }

    #[test]
    fn a_pipe_that_is_shared_stays_one_that_waits() {
        let (_reader, writer) = io::pipe().expect("a pipe");
        let _log = Log::over(writer.as_fd());
        let flags = OFlag::from_bits_retain(fcntl(&writer, FcntlArg::F_GETFL).expect("flags"));
        assert!(!flags.contains(OFlag::O_NONBLOCK));
    }

    #[test]
    fn a_socket_that_nobody_reads_loses_lines_and_stops_nobody() {
        let (_reader, writer) = UnixStream::pair().expect("a pair");
        let mut log = Log::over(writer.as_fd());
        (0..LINES).for_each(|_| log.put(&[b'x'; 100]));
        assert!(log.lost > 0, "everything found room");
    }

    #[test]
    fn a_full_disk_loses_every_line_and_counts() {
        let full = OpenOptions::new().write(true).open("/dev/full").expect("/dev/full");
        let mut log = Log::over(full.as_fd());
        (0..3).for_each(|_| log.put(b"line\n"));
        assert_eq!(log.lost, 3);
    }

    #[test]
    fn a_file_is_appended_to_where_its_other_writers_are() {
        let mut file = tempfile::tempfile().expect("a file");
        let mut log = Log::over(file.as_fd());
        file.write_all(b"one\n").expect("a line");
        log.put(b"two\n");
        file.write_all(b"three\n").expect("a line");
        assert_eq!(io::Seek::stream_position(&mut file).expect("an offset"), 14);
    }
}
