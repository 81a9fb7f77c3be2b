"""Connectivity checks with USE-CANDIDATE from addresses that answer nothing: what does the relay send there?"""

import re
import socket

from aioice import stun

from .ground import NO_ANSWER, failure, listener

SILENT = 20


def check(user, password):
    message = stun.Message(message_method=stun.Method.BINDING, message_class=stun.Class.REQUEST)
    message.attributes |= {"USERNAME": user, "PRIORITY": 1, "ICE-CONTROLLING": 7, "USE-CANDIDATE": None}
    message.add_message_integrity(password.encode())
    return bytes(message)


async def attack(target, pace, tally):
    while True:
        silent = []
        try:
            async with listener(target, "127.0.0.21") as (connection, answer):
                theirs = re.search(r"a=ice-ufrag:(\S+)", answer)[1]
                password = re.search(r"a=ice-pwd:(\S+)", answer)[1]
                ours = re.search(r"a=ice-ufrag:(\S+)", connection.localDescription.sdp)[1]
                for number in range(SILENT):
                    one = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
                    one.setblocking(False)
                    one.bind((f"127.0.0.{22 + number % 8}", 0))
                    silent.append(one)
                    tally["octets sent"] += one.sendto(check(f"{theirs}:{ours}", password), target.media)
                    tally["checks"] += 1
                    await pace.rest(0.15)
                await pace.rest(1)
                tally["sessions"] += 1
        except NO_ANSWER as error:
            tally[failure(error)] += 1
        for one in silent:
            try:
                while True:
                    tally["octets back"] += len(one.recv(2048))
            except BlockingIOError:
                one.close()
        await pace.rest(1)
