"""A client of the control socket that passes whatever a test wants (PROTOCOL.mux, version 4).

Its statements run after these; `control_path` is the socket.
"""

import array
import fcntl
import json
import os
import select
import socket
import struct
import sys
import termios

HELLO, NEW_SESSION, ALIVE_CHECK, STDIO_FORWARD = 1, 0x10000002, 0x10000004, 0x10000008
FAILURE, EXIT, OPENED = 0x80000003, 0x80000004, 0x80000006


def number(value):
    return struct.pack(">I", value)


def string(value):
    return number(len(value)) + value


def framed(*parts):
    return string(b"".join(parts))


class Client:
    """One connection; `receive` gives the type of the next message and its fields."""

    def __init__(self):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.connect(control_path)
        self.socket.settimeout(60)
        self.bytes = b""
        self.send(HELLO, number(4))
        assert self.receive()[0] == HELLO

    def send(self, kind, *fields):
        self.socket.sendall(framed(number(kind), *fields))

    def pass_on(self, *descriptors, data=b"\0"):
        rights = array.array("i", descriptors)
        self.socket.sendmsg([data], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)])

    def session(self, command, *descriptors, request=1):
        self.send(NEW_SESSION, number(request), string(b""), number(0) * 4, number(0xFFFFFFFF),
                  string(b"xterm"), string(command.encode()))
        for descriptor in descriptors:
            self.pass_on(descriptor)

    def connection(self, port, *descriptors):
        self.send(STDIO_FORWARD, number(1), string(b""), string(b"127.0.0.1"), number(port))
        for descriptor in descriptors:
            self.pass_on(descriptor)

    def receive(self):
        while len(self.bytes) < 4 or len(self.bytes) < 4 + self.length:
            more = self.socket.recv(65536)
            if not more:
                return None, b""
            self.bytes += more
        message, self.bytes = self.bytes[4:4 + self.length], self.bytes[4 + self.length:]
        return struct.unpack(">I", message[:4])[0], message[4:]

    @property
    def length(self):
        return struct.unpack(">I", self.bytes[:4])[0]

    def expect(self, kind):
        found, fields = self.receive()
        assert found == kind, (hex(found or 0), fields)
        return fields

    def close(self):
        self.socket.close()


nothing = os.open("/dev/null", os.O_RDWR)


def output_of(command):
    """What a session writes, and its status."""
    reader, writer = os.pipe()
    client = Client()
    client.session(command, nothing, writer, nothing)
    os.close(writer)
    client.expect(OPENED)
    output = b""
    while more := os.read(reader, 65536):
        output += more
    status = struct.unpack(">I", client.expect(EXIT)[4:])[0]
    client.close()
    os.close(reader)
    return output, status


def terminal():
    """The two ends of a new terminal: its master, and what `/dev/tty` is to its programs."""
    master, slave = os.openpty()
    ours, theirs = socket.socketpair()
    if os.fork() == 0:
        os.setsid()
        fcntl.ioctl(slave, termios.TIOCSCTTY, 0)
        socket.send_fds(theirs, [b"\0"], [os.open("/dev/tty", os.O_RDWR)])
        # As long as it is there, it has the terminal; nothing else is to stay open by it.
        os.closerange(3, theirs.fileno())
        os.closerange(theirs.fileno() + 1, 1024)
        theirs.recv(1)
        os._exit(0)
    theirs.close()
    os.close(slave)
    _, descriptors, _, _ = socket.recv_fds(ours, 1, 1)
    return master, descriptors[0], ours
