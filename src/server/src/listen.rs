//! Listening sockets: one for each core on the same address, and nobody else's.

use std::io;
use std::net::SocketAddr;

use socket2::{Domain, Protocol, Socket, Type};

use crate::patience::try_patiently;

/// Connections that the kernel is asked to keep on each socket until they are accepted; it keeps no more than `net.core.somaxconn`.
pub const BACKLOG: i32 = 4096;

/// Listening sockets for so many cores, and the address that they listen on. An address in use is asked for again for a while: the kernel gives
/// up the sockets of a killed process a little after the process itself, when its rings are torn down.
pub(crate) fn listen(address: SocketAddr, count: usize) -> io::Result<(Vec<Socket>, SocketAddr)> {
    try_patiently(
        || try_listen(address, count),
        |error| error.kind() == io::ErrorKind::AddrInUse,
    )
}

/// Makes the sockets. The first is bound without `SO_REUSEPORT`, so that an address in use is refused, also when its owner would share it; only then is the
/// option set, and the others join.
fn try_listen(address: SocketAddr, count: usize) -> io::Result<(Vec<Socket>, SocketAddr)> {
    let first = new_socket(address)?;
    first.bind(&address.into())?;
    let address = first.local_addr()?.as_socket().ok_or(io::ErrorKind::AddrNotAvailable)?;
    first.set_reuse_port(true)?;
    let mut sockets = vec![first];
    for _ in 1..count {
        let socket = new_socket(address)?;
        socket.set_reuse_port(true)?;
        socket.bind(&address.into())?;
        sockets.push(socket);
    }
    for socket in &sockets {
        socket.listen(BACKLOG)?;
    }
    Ok((sockets, address))
}

fn new_socket(address: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    // So that a restart need not wait for connections that linger in the kernel.
    socket.set_reuse_address(true)?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_in_use_is_refused_also_by_ourselves() {
        let (sockets, address) = listen("127.0.0.1:0".parse().unwrap(), 2).unwrap();
        assert_eq!(sockets.len(), 2);
        let error = listen(address, 2).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
        drop(sockets);
        listen(address, 2).unwrap();
    }
}
