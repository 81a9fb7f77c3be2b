"""Guesses of the ids of other people's sessions: to see them, end them, or restart their ICE."""

import os

from .ground import NO_ANSWER, Http, failure

FRAGMENT = b"a=ice-ufrag:gues\r\na=ice-pwd:a-password-of-somebody-else\r\n"


async def attack(target, pace, tally):
    http, turn = Http(target.http, "127.0.0.70"), 0
    while True:
        turn += 1
        guess = os.urandom(16).hex()
        if turn % 10 == 0:
            guess = ("..", "0" * 32, guess[:-1], "%00" * 16)[turn // 10 % 4]
        requests = (
            ("GET", f"/api/v1/sessions/{guess}", (), b""),
            ("DELETE", f"/whep/{target.stream}/{guess}", (), b""),
            ("DELETE", f"/whip/{target.stream}/{guess}", (), b""),
            ("PATCH", f"/whep/{target.stream}/{guess}", ("Content-Type: application/trickle-ice-sdpfrag", 'If-Match: "*"'), FRAGMENT),
        )
        try:
            status, _, _ = await http.ask(*requests[turn % 4])
            tally[str(status)] += 1
            # Nobody has a guessed session; a success would be somebody else's.
            if status < 300:
                tally["SUCCEEDED"] += 1
        except NO_ANSWER as error:
            http.close()
            tally[failure(error)] += 1
        await pace.rest(0.03)
