"""Runs on a host under lab/audit/relay.py, with the host's Python: opens connections and passes their bytes on.

A frame on standard input and output is the connection's number, the length of its data, and the data; no data closes the
connection. The first frame of a connection is OPEN ADDRESS PORT.
"""

import os
import selectors
import socket
import struct
import sys

HEAD = struct.Struct("!II")
selector, sockets, buffer = selectors.DefaultSelector(), {}, b""


def send(number, data):
    frame = HEAD.pack(number, len(data)) + data
    while frame:
        frame = frame[os.write(1, frame) :]


def close(number):
    connection = sockets.pop(number, None)
    if connection:
        selector.unregister(connection)
        connection.close()
        send(number, b"")


def take(number, data):
    try:
        if not data:
            close(number)
        elif number in sockets:
            sockets[number].sendall(data)
        elif data.startswith(b"OPEN "):
            address, port = data[5:].decode().rsplit(" ", 1)
            sockets[number] = socket.create_connection((address, int(port)), timeout=5)
            selector.register(sockets[number], selectors.EVENT_READ, number)
    except OSError:
        if number in sockets:
            close(number)
        else:
            send(number, b"")


selector.register(0, selectors.EVENT_READ, None)
while True:
    for key, _ in selector.select():
        if key.data is None:
            piece = os.read(0, 65536)
            if not piece:
                sys.exit()
            buffer += piece
            while len(buffer) >= HEAD.size:
                number, length = HEAD.unpack(buffer[: HEAD.size])
                if len(buffer) < HEAD.size + length:
                    break
                data, buffer = buffer[HEAD.size : HEAD.size + length], buffer[HEAD.size + length :]
                take(number, data)
        elif key.data in sockets:
            try:
                data = sockets[key.data].recv(65536)
            except OSError:
                data = b""
            if data:
                send(key.data, data)
            else:
                close(key.data)
