//! The socket calls that the kinds of port have in common.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

fn check(result: i32) -> io::Result<()> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// A new raw socket, closed on exec, that receives nothing before it is bound.
pub fn create(family: i32) -> io::Result<OwnedFd> {
    // SAFETY: no memory involved.
    let fd = unsafe { libc::socket(family, libc::SOCK_RAW | libc::SOCK_CLOEXEC, 0) };
    check(fd)?;
    // SAFETY: a descriptor that the kernel just gave and nobody else has.
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

/// Reads one of libc's structs of integers and how many of its bytes the kernel knows; the rest is zero.
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

/// A send without data: the kernel goes on with the transmit ring. The error number if it couldn't.
#[inline]
pub fn poke_send(socket: BorrowedFd<'_>) -> Result<(), i32> {
    let flags = libc::MSG_DONTWAIT;
    // SAFETY: no buffer and no address is passed.
    let sent = unsafe { libc::sendto(socket.as_raw_fd(), std::ptr::null(), 0, flags, std::ptr::null(), 0) };
    if sent < 0 { Err(io::Error::last_os_error().raw_os_error().unwrap_or(0)) } else { Ok(()) }
}

/// A receive without data: a sleeping driver looks at the fill ring, and with busy polling the kernel fetches packets.
/// The error number if it couldn't.
#[inline]
pub fn poke_receive(socket: BorrowedFd<'_>) -> Result<(), i32> {
    let (nothing, flags) = (std::ptr::null_mut(), libc::MSG_DONTWAIT);
    // SAFETY: no buffer and no address is passed.
    let received =
        unsafe { libc::recvfrom(socket.as_raw_fd(), nothing, 0, flags, std::ptr::null_mut(), std::ptr::null_mut()) };
    if received < 0 { Err(io::Error::last_os_error().raw_os_error().unwrap_or(0)) } else { Ok(()) }
}
