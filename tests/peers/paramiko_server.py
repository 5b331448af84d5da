"""paramiko as a server; peer_servers.ts says what the arguments mean."""

import os
import socket
import subprocess
import sys
import threading

import paramiko

import children

host_key_file, authorized, rekey_bytes = sys.argv[1:]
host_key = paramiko.Ed25519Key(filename=host_key_file)
authorized_key = open(authorized).read().split()[1]


def in_background(target, *args):
    threading.Thread(target=target, args=args, daemon=True).start()


def copy(read, write):
    while data := read(32768):
        write(data)


def serve_command(channel, command):
    child = subprocess.Popen(
        ["/bin/sh", "-c", command],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        bufsize=0,
    )

    def feed():
        try:
            copy(channel.recv, child.stdin.write)
            child.stdin.close()
        except OSError:
            pass  # The command need not read its input to the end.

    in_background(feed)
    errors = threading.Thread(target=copy, args=(child.stderr.read, channel.sendall_stderr))
    errors.start()
    copy(child.stdout.read, channel.sendall)
    errors.join()
    channel.send_exit_status(child.wait())
    channel.close()


def serve_terminal(channel, child, terminal):
    in_background(copy, channel.recv, lambda data: os.write(terminal, data))
    copy(lambda _: children.read_terminal(terminal), channel.sendall)
    channel.send_exit_status(child.wait())
    channel.close()


def join(channel, connection):
    def back():
        copy(connection.recv, channel.sendall)
        channel.shutdown_write()

    returning = threading.Thread(target=back, daemon=True)
    returning.start()
    copy(channel.recv, connection.sendall)
    connection.shutdown(socket.SHUT_WR)
    returning.join()
    connection.close()
    channel.close()


class Server(paramiko.ServerInterface):
    def __init__(self, transport):
        self.transport = transport
        self.terminals = {}
        self.destinations = {}
        self.listeners = {}

    def get_allowed_auths(self, username):
        return "publickey"

    def check_auth_publickey(self, username, key):
        is_ours = key.get_base64() == authorized_key
        return paramiko.AUTH_SUCCESSFUL if is_ours else paramiko.AUTH_FAILED

    def check_channel_request(self, kind, chanid):
        return paramiko.OPEN_SUCCEEDED

    def check_channel_pty_request(self, channel, term, columns, rows, _width, _height, _modes):
        self.terminals[channel.chanid] = {"size": (term.decode(), rows, columns)}
        return True

    def check_channel_window_change_request(self, channel, columns, rows, _width, _height):
        children.set_size(self.terminals[channel.chanid]["master"], rows, columns)
        return True

    def check_channel_exec_request(self, channel, command):
        terminal = self.terminals.get(channel.chanid)
        if terminal is None:
            in_background(serve_command, channel, command.decode())
        else:
            child, master = children.start_in_terminal(command.decode(), *terminal["size"])
            terminal["master"] = master
            in_background(serve_terminal, channel, child, master)
        return True

    def check_channel_subsystem_request(self, channel, name):
        in_background(serve_command, channel, children.SFTP_SERVER)
        return name == "sftp"

    def check_channel_direct_tcpip_request(self, chanid, origin, destination):
        self.destinations[chanid] = destination
        return paramiko.OPEN_SUCCEEDED

    def check_port_forward_request(self, address, port):
        listener = socket.create_server(("127.0.0.1", port))
        port = listener.getsockname()[1]
        self.listeners[port] = listener
        in_background(self.accept_forwarded, listener, address, port)
        return port

    def accept_forwarded(self, listener, address, port):
        while True:
            try:
                connection, origin = listener.accept()
            except OSError:
                return
            channel = self.transport.open_forwarded_tcpip_channel(origin, (address, port))
            in_background(join, channel, connection)

    def cancel_port_forward_request(self, address, port):
        self.listeners.pop(port).close()


def serve(connection):
    transport = paramiko.Transport(connection)
    transport.add_server_key(host_key)
    if int(rekey_bytes):
        transport.packetizer.REKEY_BYTES = int(rekey_bytes)
    server = Server(transport)
    transport.start_server(server=server)
    # The transport itself keeps no channel from the garbage collector.
    channels = []
    while transport.is_active():
        channel = transport.accept(1)
        channels.append(channel)
        if channel is not None and channel.chanid in server.destinations:
            service = socket.create_connection(server.destinations[channel.chanid])
            in_background(join, channel, service)
    for listener in server.listeners.values():
        listener.close()


with socket.create_server(("127.0.0.1", 0)) as listener:
    print("port", listener.getsockname()[1], flush=True)
    while True:
        in_background(serve, listener.accept()[0])
