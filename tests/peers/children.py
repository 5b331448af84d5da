"""Commands that Python's servers run, with a terminal or with pipes."""

import fcntl
import os
import pty
import struct
import subprocess
import termios

SFTP_SERVER = "/usr/lib/openssh/sftp-server"


def set_size(terminal, rows, columns):
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))


def start_in_terminal(command, term, rows, columns):
    """Returns the child and the file descriptor of its terminal's other end."""
    master, slave = pty.openpty()
    set_size(slave, rows, columns)
    child = subprocess.Popen(
        ["setsid", "--ctty", "--wait", "/bin/sh", "-c", command],
        stdin=slave,
        stdout=slave,
        stderr=slave,
        env={**os.environ, "TERM": term},
    )
    os.close(slave)
    return child, master


def read_terminal(master):
    """What the terminal shows next; nothing at its end."""
    try:
        return os.read(master, 32768)
    except OSError:  # Linux reports the end of the other side as EIO.
        return b""
