//! The XDP program that writes one frame, assembled here: it needs the addresses, and no compiler then.
//!
//! All headers are written each time, because a frame's memory comes back from the device as the device left it.

use crate::frame::{HEADER_LENGTH, SOURCE_PORT_OFFSET};

/// One eBPF instruction, as the kernel encodes it (`struct bpf_insn`).
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Instruction {
    code: u8,
    /// Destination in the low four bits, source in the high four.
    registers: u8,
    offset: i16,
    immediate: i32,
}

// Operation codes: class, size or source, and operation (RFC 9669).
const LOAD_WORD: u8 = 0x61;
const STORE_IMMEDIATE_WORD: u8 = 0x62;
const STORE_IMMEDIATE_HALF: u8 = 0x6a;
const STORE_HALF: u8 = 0x6b;
const MOVE: u8 = 0xbf;
const MOVE_IMMEDIATE: u8 = 0xb7;
const ADD_IMMEDIATE: u8 = 0x07;
const AND_IMMEDIATE: u8 = 0x57;
const OR_IMMEDIATE: u8 = 0x47;
const TO_BIG_ENDIAN: u8 = 0xdc;
const JUMP_IF_GREATER: u8 = 0x2d;
const CALL: u8 = 0x85;
const EXIT: u8 = 0x95;

// Helper functions of the kernel (`enum bpf_func_id`).
const GET_PRANDOM_U32: i32 = 7;
const REDIRECT: i32 = 23;

/// Offsets of `data` and `data_end` in `struct xdp_md`.
const DATA: i16 = 0;
const DATA_END: i16 = 4;

/// Source ports start here, so that their number can be a power of two up to 32768.
const FIRST_SOURCE_PORT: i32 = 0x8000;

fn instruction(code: u8, destination: u8, source: u8, offset: i16, immediate: i32) -> Instruction {
    Instruction { code, registers: destination | source << 4, offset, immediate }
}

/// The program: writes `header` with a random source port out of `flows`, and sends the frame on interface `index`.
pub fn assemble(header: &[u8; HEADER_LENGTH], flows: u16, index: u32) -> Vec<Instruction> {
    let stores = store_header(header);
    let fill_length = stores.len() as i16 + 5;
    let mut program = vec![
        instruction(LOAD_WORD, 6, 1, DATA, 0),
        instruction(LOAD_WORD, 3, 1, DATA_END, 0),
        instruction(MOVE, 4, 6, 0, 0),
        instruction(ADD_IMMEDIATE, 4, 0, 0, HEADER_LENGTH as i32),
        instruction(JUMP_IF_GREATER, 4, 3, fill_length, 0),
    ];
    program.extend(stores);
    program.extend([
        instruction(CALL, 0, 0, 0, GET_PRANDOM_U32),
        instruction(AND_IMMEDIATE, 0, 0, 0, i32::from(flows) - 1),
        instruction(OR_IMMEDIATE, 0, 0, 0, FIRST_SOURCE_PORT),
        instruction(TO_BIG_ENDIAN, 0, 0, 0, 16),
        instruction(STORE_HALF, 6, 0, SOURCE_PORT_OFFSET as i16, 0),
        instruction(MOVE_IMMEDIATE, 1, 0, 0, index as i32),
        instruction(MOVE_IMMEDIATE, 2, 0, 0, 0),
        instruction(CALL, 0, 0, 0, REDIRECT),
        instruction(EXIT, 0, 0, 0, 0),
    ]);
    program
}

fn store_header(header: &[u8; HEADER_LENGTH]) -> Vec<Instruction> {
    let (words, half) = header.split_at(HEADER_LENGTH & !3);
    let mut stores: Vec<Instruction> = words
        .chunks_exact(4)
        .enumerate()
        .map(|(index, word)| {
            let value = i32::from_ne_bytes([word[0], word[1], word[2], word[3]]);
            instruction(STORE_IMMEDIATE_WORD, 6, 0, index as i16 * 4, value)
        })
        .collect();
    let value = i32::from(u16::from_ne_bytes([half[0], half[1]]));
    stores.push(instruction(STORE_IMMEDIATE_HALF, 6, 0, words.len() as i16, value));
    stores
}
