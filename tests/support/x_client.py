"""Connects to $DISPLAY as an X11 program does and prints what the display answers.

Usage: x_client.py [byte-order=l|B] [piece=BYTES] [cookie=HEX]

The cookie is the one that xauth knows for the display, unless another one is given; an empty one
makes the program leave without a word. It is shown in pieces of that many bytes.
"""

import os
import socket
import struct
import subprocess
import sys
import time

FIRST_PORT = 6000


def known_cookie(display):
    entry = subprocess.check_output(["xauth", "list", display], text=True).split()
    return entry[2]


def setup_packet(byte_order, cookie):
    name = b"MIT-MAGIC-COOKIE-1"
    order = "<" if byte_order == "l" else ">"
    head = struct.pack(
        order + "cxHHHHxx", byte_order.encode(), 11, 0, len(name), len(cookie)
    )
    return head + name + bytes(-len(name) % 4) + cookie + bytes(-len(cookie) % 4)


def main():
    options = dict(word.split("=") for word in sys.argv[1:])
    display = os.environ["DISPLAY"]
    number = int(display.rsplit(":", 1)[1].split(".")[0])
    piece = int(options.get("piece", 1000))
    cookie = bytes.fromhex(options.get("cookie") or known_cookie(display))
    packet = setup_packet(options.get("byte-order", "l"), cookie)
    if options.get("cookie") == "":
        packet = b""
    answer = b""
    with socket.create_connection(("127.0.0.1", FIRST_PORT + number)) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for at in range(0, len(packet), piece):
            connection.sendall(packet[at : at + piece])
            if piece < len(packet):
                time.sleep(0.002)
        if not packet:
            connection.shutdown(socket.SHUT_WR)
        try:
            while data := connection.recv(4096):
                answer += data
        except ConnectionResetError:
            pass
    print(answer.decode() or "no answer")


main()
