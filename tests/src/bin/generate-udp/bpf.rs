//! The two `bpf(2)` commands that the generator needs.
#![allow(unsafe_code)]

use std::io::{Error, ErrorKind, Result};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use crate::program::Instruction;

const PROG_LOAD: libc::c_int = 5;
const PROG_TEST_RUN: libc::c_int = 10;
const PROG_TYPE_XDP: u32 = 6;
const TEST_XDP_LIVE_FRAMES: u32 = 1 << 1;
/// Frames handed to the interface at once; the veth's ring takes 256.
const BATCH: u32 = 64;

/// `union bpf_attr` of `BPF_PROG_LOAD`, as far as it is used; the kernel takes what is missing as zero.
#[repr(C)]
#[derive(Default)]
struct LoadAttributes {
    program_type: u32,
    instruction_count: u32,
    instructions: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log_buffer: u64,
}

/// `union bpf_attr` of `BPF_PROG_TEST_RUN`.
#[repr(C)]
#[derive(Default)]
struct RunAttributes {
    program: u32,
    return_value: u32,
    data_size_in: u32,
    data_size_out: u32,
    data_in: u64,
    data_out: u64,
    repeat: u32,
    duration: u32,
    context_size_in: u32,
    context_size_out: u32,
    context_in: u64,
    context_out: u64,
    flags: u32,
    cpu: u32,
    batch_size: u32,
    padding: u32,
}

/// A loaded XDP program.
pub struct Program(OwnedFd);

/// Loads an XDP program; a refusal comes with the verifier's words.
pub fn load(program: &[Instruction]) -> Result<Program> {
    let mut log = vec![0_u8; 64 * 1024];
    let mut attributes = LoadAttributes {
        program_type: PROG_TYPE_XDP,
        instruction_count: program.len() as u32,
        instructions: program.as_ptr() as u64,
        license: c"Apache-2.0".as_ptr() as u64,
        log_level: 1,
        log_size: log.len() as u32,
        log_buffer: log.as_mut_ptr() as u64,
    };
    match bpf(PROG_LOAD, &mut attributes) {
        // SAFETY: the kernel has just made this descriptor for us, and nobody else owns it.
        Ok(descriptor) => Ok(Program(unsafe { OwnedFd::from_raw_fd(descriptor) })),
        Err(error) => {
            let end = log.iter().position(|byte| *byte == 0).unwrap_or(log.len());
            Err(Error::new(error.kind(), format!("{error}\n{}", String::from_utf8_lossy(&log[..end]))))
        }
    }
}

impl Program {
    /// Runs the program over `count` live frames made from `data`. An interruption by a signal is no error.
    pub fn send_frames(&self, data: &[u8], count: u32) -> Result<()> {
        let mut attributes = RunAttributes {
            program: self.0.as_raw_fd() as u32,
            data_size_in: data.len() as u32,
            data_in: data.as_ptr() as u64,
            repeat: count,
            flags: TEST_XDP_LIVE_FRAMES,
            batch_size: BATCH,
            ..RunAttributes::default()
        };
        match bpf(PROG_TEST_RUN, &mut attributes) {
            Err(error) if error.kind() != ErrorKind::Interrupted => Err(error),
            _ => Ok(()),
        }
    }
}

/// `Attributes` is one of the structures above, whose pointers lead to memory that outlives the call.
fn bpf<Attributes>(command: libc::c_int, attributes: &mut Attributes) -> Result<i32> {
    // SAFETY: `attributes` is valid for its whole size; the kernel uses it, and the buffers it names, during this call only.
    // What it writes (result fields, the log buffer) is borrowed or owned exclusively by the caller.
    let result =
        unsafe { libc::syscall(libc::SYS_bpf, command, std::ptr::from_mut(attributes), size_of::<Attributes>()) };
    if result < 0 { Err(Error::last_os_error()) } else { Ok(result as i32) }
}
