"""A child of `services.replica.supervised`, which does what its first argument names."""

from __future__ import annotations

import faulthandler
import os
import socket
import sys
import time

import msgspec

from postjournal.adapters.process.channel import LENGTH
from postjournal.adapters.process.child import die_with_parent
from postjournal.adapters.process.death_lock import DeathLock
from services.replica.child import inherited, mark_in
from services.replica.messages import Begun


def main() -> None:
    given, (behavior,) = inherited(sys.argv[1:])
    die_with_parent(given.parent)
    faulthandler.enable(given.words)
    DeathLock(given.lock).hold()
    channel = socket.socket(fileno=given.channel)
    body = msgspec.msgpack.encode(Begun(str(os.getpid())))
    for _ in range(2):  # a rebuild begins another incarnation in the same process
        channel.sendall(LENGTH.pack(len(body)) + body)
    if behavior == "dies at a record":
        mark_in(given.words)[0] = 17
        os.write(given.words, b"overflow\n")
        os.abort()
    if behavior == "fails":
        os.write(given.words, b"no disk\n")
        sys.exit(3)
    if behavior == "is misconfigured":
        sys.exit(78)
    time.sleep(600)


if __name__ == "__main__":
    main()
