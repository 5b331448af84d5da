"""An SSH server whose sessions report the requests that reach them, one per line.

Usage: witness.py HOST_KEY AUTHORIZED_KEYS

It prints its port on standard output and serves until its standard input ends. A session says
"started", then what it receives, and at the end of its input it exits with 0.
"""

import asyncio
import sys

import asyncssh


class Session(asyncssh.SSHServerSession):
    def connection_made(self, channel):
        self._channel = channel

    def pty_requested(self, term_type, term_size, term_modes):
        return True

    def exec_requested(self, command):
        return True

    def session_started(self):
        self._tell("started")

    def terminal_size_changed(self, width, height, pixel_width, pixel_height):
        self._tell("dimensions", width, height, pixel_width, pixel_height)

    def break_received(self, milliseconds):
        self._tell("break", milliseconds)
        return True

    def signal_received(self, name):
        self._tell("signal", name)

    def data_received(self, data, datatype):
        self._tell("data", repr(data))

    def eof_received(self):
        self._channel.exit(0)

    def _tell(self, *words):
        self._channel.write(" ".join(map(str, words)) + "\r\n")


class Server(asyncssh.SSHServer):
    def session_requested(self):
        return Session()


async def main():
    server = await asyncssh.listen(
        "127.0.0.1",
        0,
        server_factory=Server,
        server_host_keys=[sys.argv[1]],
        authorized_client_keys=sys.argv[2],
        line_editor=False,
    )
    print(server.sockets[0].getsockname()[1], flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    server.close()


asyncio.run(main())
