//! Socket calls that several kinds of port use.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

fn check(result: i32) -> io::Result<()> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Opens a raw socket, closed on exec, that receives nothing until it is bound.
pub fn create(family: i32) -> io::Result<OwnedFd> {
    // SAFETY: no memory involved.
    let fd = unsafe { libc::socket(family, libc::SOCK_RAW | libc::SOCK_CLOEXEC, 0) };
    check(fd)?;
    // SAFETY: the kernel just created this descriptor; no other code owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Sets an option whose value is one of libc's structs or an integer.
pub fn set_option<T: Copy>(socket: BorrowedFd<'_>, level: i32, option: i32, value: &T) -> io::Result<()> {
    // SAFETY: the kernel reads size_of::<T>() bytes at `value`, a live reference.
    check(unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            level,
            option,
            std::ptr::from_ref(value).cast(),
            size_of::<T>() as libc::socklen_t,
        )
    })
}

/// Reads an option: one of libc's structs of integers, and the number of bytes that the kernel wrote; the rest is zero.
pub fn option<T: Copy>(socket: BorrowedFd<'_>, level: i32, option: i32) -> io::Result<(T, usize)> {
    let mut value = std::mem::MaybeUninit::<T>::zeroed();
    let mut length = size_of::<T>() as libc::socklen_t;
    // SAFETY: the kernel writes at most `length` bytes at `value`.
    check(unsafe { libc::getsockopt(socket.as_raw_fd(), level, option, value.as_mut_ptr().cast(), &raw mut length) })?;
    // SAFETY: only called with structs of integers, for which zero bytes, overwritten or not, are a value.
    Ok((unsafe { value.assume_init() }, length as usize))
}

/// Binds to an address of the socket's own family.
pub fn bind<T: Copy>(socket: BorrowedFd<'_>, address: &T) -> io::Result<()> {
    // SAFETY: the kernel reads size_of::<T>() bytes at `address`, a live reference, and checks the family in it.
    check(unsafe {
        libc::bind(socket.as_raw_fd(), std::ptr::from_ref(address).cast(), size_of::<T>() as libc::socklen_t)
    })
}

/// Sends without data, so that the kernel processes the transmit ring. Returns the error number on failure.
#[inline]
pub fn poke_send(socket: BorrowedFd<'_>) -> Result<(), i32> {
    let flags = libc::MSG_DONTWAIT;
    // SAFETY: no buffer and no address is passed.
    let sent = unsafe { libc::sendto(socket.as_raw_fd(), std::ptr::null(), 0, flags, std::ptr::null(), 0) };
    if sent < 0 { Err(io::Error::last_os_error().raw_os_error().unwrap_or(0)) } else { Ok(()) }
}

/// Receives without data: a sleeping driver checks the fill ring, and with busy polling the kernel fetches packets. Returns
/// the error number on failure.
#[inline]
pub fn poke_receive(socket: BorrowedFd<'_>) -> Result<(), i32> {
    let (nothing, flags) = (std::ptr::null_mut(), libc::MSG_DONTWAIT);
    // SAFETY: no buffer and no address is passed.
    let received =
        unsafe { libc::recvfrom(socket.as_raw_fd(), nothing, 0, flags, std::ptr::null_mut(), std::ptr::null_mut()) };
    if received < 0 { Err(io::Error::last_os_error().raw_os_error().unwrap_or(0)) } else { Ok(()) }
}
