"""asyncssh as a server; peer_servers.ts says what the arguments mean."""

import asyncio
import os
import sys

import asyncssh

import children

host_key_file, authorized, rekey_bytes = sys.argv[1:]
authorized_key = asyncssh.read_public_key(authorized)


class Server(asyncssh.SSHServer):
    def begin_auth(self, username):
        return True

    def public_key_auth_supported(self):
        return True

    def validate_public_key(self, username, key):
        return key == authorized_key

    def connection_requested(self, dest_host, dest_port, orig_host, orig_port):
        return True

    def server_requested(self, listen_host, listen_port):
        return True


async def copy(reader, writer):
    while data := await reader.read(32768):
        writer.write(data)
        await writer.drain()


async def feed(reader, writer):
    try:
        await copy(reader, writer)
        writer.close()
    except (OSError, asyncssh.Error):
        pass  # The command need not read its input to the end.


async def run_command(process):
    pipe = asyncio.subprocess.PIPE
    child = await asyncio.create_subprocess_shell(
        process.command, stdin=pipe, stdout=pipe, stderr=pipe
    )
    feeding = asyncio.create_task(feed(process.stdin, child.stdin))
    await asyncio.gather(copy(child.stdout, process.stdout), copy(child.stderr, process.stderr))
    process.exit(await child.wait())
    feeding.cancel()


async def type_into(terminal, reader):
    while True:
        try:
            data = await reader.read(32768)
            if not data:
                return
            os.write(terminal, data)
        except asyncssh.TerminalSizeChanged as change:
            children.set_size(terminal, change.height, change.width)


async def run_in_terminal(process):
    columns, rows, _, _ = process.term_size
    child, terminal = children.start_in_terminal(
        process.command, process.term_type, rows, columns
    )
    typing = asyncio.create_task(type_into(terminal, process.stdin))
    loop = asyncio.get_running_loop()
    while data := await loop.run_in_executor(None, children.read_terminal, terminal):
        process.stdout.write(data)
    process.exit(await loop.run_in_executor(None, child.wait))
    typing.cancel()


async def main():
    server = await asyncssh.listen(
        "127.0.0.1",
        0,
        server_factory=Server,
        server_host_keys=[host_key_file],
        process_factory=lambda one: run_in_terminal(one) if one.term_type else run_command(one),
        sftp_factory=True,
        encoding=None,
        line_editor=False,
        **({"rekey_bytes": int(rekey_bytes)} if int(rekey_bytes) else {}),
    )
    print("port", server.sockets[0].getsockname()[1], flush=True)
    await server.wait_closed()


asyncio.run(main())
