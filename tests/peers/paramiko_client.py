"""paramiko as a client; peer_acts.ts says what the arguments mean."""

import hashlib
import socket
import sys
import threading

import paramiko

case, host, port, username, key_file, known_hosts, *rest = sys.argv[1:]


def connect():
    client = paramiko.SSHClient()
    client.load_host_keys(known_hosts)
    client.connect(
        host, int(port), username, key_filename=key_file, look_for_keys=False, allow_agent=False
    )
    return client


def feed(channel, data):
    def send():
        channel.sendall(data)
        channel.shutdown_write()

    threading.Thread(target=send, daemon=True).start()


def copy(read, write):
    while data := read(32768):
        write(data)


def write_out(data):
    sys.stdout.buffer.write(data)
    sys.stdout.flush()


def execute(client, command):
    channel = client.get_transport().open_session()
    channel.exec_command(command)
    feed(channel, sys.stdin.buffer.read())
    errors = threading.Thread(
        target=copy, args=(channel.recv_stderr, sys.stderr.buffer.write), daemon=True
    )
    errors.start()
    copy(channel.recv, write_out)
    errors.join()
    return channel.recv_exit_status()


def use_terminal(client, command):
    channel = client.get_transport().open_session()
    channel.get_pty("xterm", 100, 30)
    channel.exec_command(command)
    first = b""
    while b"\n" not in first:
        first += channel.recv(1000)
    write_out(first)
    channel.resize_pty(120, 40)
    channel.sendall(b"go\n")
    copy(channel.recv, write_out)
    return channel.recv_exit_status()


def transfer(client, folder):
    with client.open_sftp() as sftp:
        sftp.mkdir(folder + "/remote")
        sftp.put(folder + "/file", folder + "/remote/file")
        sftp.rename(folder + "/remote/file", folder + "/remote/renamed")
        print(*sftp.listdir(folder + "/remote"))
        sftp.get(folder + "/remote/renamed", folder + "/back")
        try:
            sftp.remove(folder + "/remote/missing")
        except FileNotFoundError:
            print("missing")


def forward_local(client, to):
    channel = client.get_transport().open_channel(
        "direct-tcpip", ("127.0.0.1", int(to)), ("127.0.0.1", 0)
    )
    feed(channel, sys.stdin.buffer.read())
    copy(channel.recv, write_out)


def forward_remote(client, to):
    def serve(channel, _origin, _server):
        threading.Thread(target=join, args=(channel,), daemon=True).start()

    def join(channel):
        with socket.create_connection(("127.0.0.1", int(to))) as service:
            def back():
                copy(service.recv, channel.sendall)
                channel.shutdown_write()

            returning = threading.Thread(target=back, daemon=True)
            returning.start()
            copy(channel.recv, service.sendall)
            service.shutdown(socket.SHUT_WR)
            returning.join()
        channel.close()

    bound = client.get_transport().request_port_forward("127.0.0.1", 0, serve)
    print("port", bound, flush=True)
    sys.stdin.read()


def run_ten(client):
    channels = []
    for number in range(10):
        channel = client.get_transport().open_session()
        channel.exec_command(f"cat; exit {number}")
        channels.append(channel)
    for number, channel in enumerate(channels):
        feed(channel, str(number).encode() * 20000)
    for number, channel in enumerate(channels):
        output = hashlib.sha256()
        copy(channel.recv, output.update)
        print(number, channel.recv_exit_status(), output.hexdigest())


with connect() as client:
    status = 0
    if case == "rekey":
        client.get_transport().packetizer.REKEY_BYTES = 1_000_000
    if case in ("exec", "rekey"):
        status = execute(client, *rest)
    elif case == "terminal":
        status = use_terminal(client, *rest)
    elif case == "sftp":
        transfer(client, *rest)
    elif case == "local":
        forward_local(client, *rest)
    elif case == "remote":
        forward_remote(client, *rest)
    elif case == "ten":
        run_ten(client)
sys.exit(status)
