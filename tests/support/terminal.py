"""Runs a command under a pseudo-terminal that JSON lines on standard input control.

Usage: terminal.py ROWS COLUMNS COMMAND [ARGUMENT]...

Input lines:  {"write": base64} and {"resize": [rows, columns]}; the input's end hangs up.
Output lines: {"output": base64} and at last {"exit": status}, where a negative status is the
number of the signal that ended the command.
"""

import base64
import fcntl
import json
import os
import pty
import select
import signal
import struct
import sys
import termios


def set_dimensions(terminal, rows, columns):
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))


def tell(**fields):
    sys.stdout.write(json.dumps(fields) + "\n")
    sys.stdout.flush()


def forward_output(terminal):
    """Passes on what the terminal shows; false once nothing will follow."""
    try:
        data = os.read(terminal, 65536)
    except OSError:  # Linux reports the end of the other side as EIO.
        return False
    if data:
        tell(output=base64.b64encode(data).decode())
    return bool(data)


def main():
    rows, columns, command = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3:]
    wake_read, wake_write = os.pipe()
    os.set_blocking(wake_write, False)
    signal.set_wakeup_fd(wake_write)
    signal.signal(signal.SIGCHLD, lambda *_: None)

    pid, terminal = pty.fork()
    if pid == 0:
        set_dimensions(0, rows, columns)
        os.execvp(command[0], command)

    sources = {terminal, sys.stdin.fileno(), wake_read}
    pending = b""
    while True:
        ready, _, _ = select.select(list(sources), [], [])
        if terminal in ready and not forward_output(terminal):
            sources.discard(terminal)
        if sys.stdin.fileno() in ready:
            data = os.read(sys.stdin.fileno(), 65536)
            if not data:
                os.kill(pid, signal.SIGKILL)
                sources.discard(sys.stdin.fileno())
            *lines, pending = (pending + data).split(b"\n")
            for line in lines:
                order = json.loads(line)
                if "write" in order:
                    os.write(terminal, base64.b64decode(order["write"]))
                if "resize" in order:
                    set_dimensions(terminal, *order["resize"])
        if wake_read in ready:
            os.read(wake_read, 4096)
            ended, status = os.waitpid(pid, os.WNOHANG)
            if ended == pid:
                while select.select([terminal], [], [], 0)[0] and forward_output(terminal):
                    pass
                tell(exit=os.waitstatus_to_exitcode(status))
                return


main()
