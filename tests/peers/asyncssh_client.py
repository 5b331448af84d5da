"""asyncssh as a client; peer_acts.ts says what the arguments mean."""

import asyncio
import hashlib
import sys

import asyncssh

case, host, port, username, key_file, known_hosts, *rest = sys.argv[1:]


async def copy(reader, stream):
    while data := await reader.read(32768):
        stream.write(data)
        stream.flush()


async def execute(connection, command):
    process = await connection.create_process(command, encoding=None)
    process.stdin.write(sys.stdin.buffer.read())
    process.stdin.write_eof()
    await asyncio.gather(
        copy(process.stdout, sys.stdout.buffer), copy(process.stderr, sys.stderr.buffer)
    )
    await process.wait()
    return process.exit_status


async def use_terminal(connection, command):
    process = await connection.create_process(
        command, term_type="xterm", term_size=(100, 30), encoding=None
    )
    sys.stdout.buffer.write(await process.stdout.readline())
    process.change_terminal_size(120, 40)
    process.stdin.write(b"go\n")
    await copy(process.stdout, sys.stdout.buffer)
    await process.wait()
    return process.exit_status


async def transfer(connection, folder):
    async with connection.start_sftp_client() as sftp:
        await sftp.mkdir(folder + "/remote")
        await sftp.put(folder + "/file", folder + "/remote/file")
        await sftp.rename(folder + "/remote/file", folder + "/remote/renamed")
        print(*await sftp.listdir(folder + "/remote"))
        await sftp.get(folder + "/remote/renamed", folder + "/back")
        try:
            await sftp.remove(folder + "/remote/missing")
        except asyncssh.SFTPNoSuchFile:
            print("missing")


async def forward_local(connection, to):
    reader, writer = await connection.open_connection("127.0.0.1", int(to))
    writer.write(sys.stdin.buffer.read())
    writer.write_eof()
    await copy(reader, sys.stdout.buffer)
    writer.close()


async def forward_remote(connection, to):
    listener = await connection.forward_remote_port("127.0.0.1", 0, "127.0.0.1", int(to))
    print("port", listener.get_port(), flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)


async def run_ten(connection):
    processes = [
        await connection.create_process(f"cat; exit {number}", encoding=None)
        for number in range(10)
    ]

    async def finish(number, process):
        process.stdin.write(str(number).encode() * 20000)
        process.stdin.write_eof()
        output = hashlib.sha256(await process.stdout.read()).hexdigest()
        await process.wait()
        return number, process.exit_status, output

    for line in await asyncio.gather(*map(finish, range(10), processes)):
        print(*line)


async def main():
    async with asyncssh.connect(
        host,
        int(port),
        username=username,
        client_keys=[key_file],
        known_hosts=known_hosts,
        agent_path=None,
        config=None,
        **({"rekey_bytes": 1_000_000} if case == "rekey" else {}),
    ) as connection:
        if case in ("exec", "rekey"):
            return await execute(connection, *rest)
        if case == "terminal":
            return await use_terminal(connection, *rest)
        if case == "sftp":
            await transfer(connection, *rest)
        elif case == "local":
            await forward_local(connection, *rest)
        elif case == "remote":
            await forward_remote(connection, *rest)
        elif case == "ten":
            await run_ten(connection)
    return 0


sys.exit(asyncio.run(main()))
