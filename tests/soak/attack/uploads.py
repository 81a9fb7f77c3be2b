"""Files that nobody may give: without a token, with a wrong one, packed, as a form, or much larger than they say."""

from .ground import NO_ANSWER, Http, failure

PIECE = b"refused " * 4096
KINDS = [
    ("POST", (), len(PIECE)),
    ("PUT", ("Authorization: Bearer wrong-horse",), len(PIECE)),
    ("POST", ("Authorization: Basic d3Jvbmc6aG9yc2U=",), 200 << 20),
    ("PUT", ("Authorization: Bearer wrong-horse", "Content-Encoding: gzip"), len(PIECE)),
    ("POST", ("Content-Type: multipart/form-data; boundary=x",), len(PIECE)),
    ("POST", ("Authorization: Bearer wrong-horse",), 1 << 60),
]


async def attack(target, pace, tally):
    turn = 0
    while True:
        turn += 1
        method, headers, claimed = KINDS[turn % len(KINDS)]
        http = Http(target.http, f"127.0.0.{82 + turn % 2}")
        try:
            path = f"/api/v1/rooms/lobby/files?name=refused-{turn}.bin"
            status, _, _ = await http.ask(method, path, headers, PIECE, claimed=claimed)
            tally[str(status)] += 1
            if status < 300:
                tally["SUCCEEDED"] += 1
        except NO_ANSWER as error:
            tally[failure(error)] += 1
        http.close()
        await pace.rest(0.1)
