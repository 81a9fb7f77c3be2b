// A proxy that shows a relay below a path, as nginx and Caddy do: it takes the path off, or leaves it.
import { createServer, request } from "node:http";
import { connect } from "node:net";

/** Resolves with its address once it listens: `http://127.0.0.1:PORT/live/stage`. */
export async function proxy(relay, path, { leaves = false } = {}) {
  const [host, port] = relay.addresses.http.split(":");
  const inner = (url) => (leaves ? url : url.slice(path.length) || "/");
  const server = createServer((from, to) => {
    if (!from.url.startsWith(path)) return void to.writeHead(404).end("not the relay's");
    const onward = request(
      { host, port, method: from.method, path: inner(from.url), headers: from.headers },
      (answer) => {
        to.writeHead(answer.statusCode, answer.headers);
        answer.pipe(to);
      },
    );
    onward.on("error", () => to.destroy());
    from.pipe(onward);
  });
  server.on("upgrade", (from, socket, head) => {
    const onward = connect(Number(port), host, () => {
      const lines = [`${from.method} ${inner(from.url)} HTTP/1.1`];
      for (let at = 0; at < from.rawHeaders.length; at += 2)
        lines.push(`${from.rawHeaders[at]}: ${from.rawHeaders[at + 1]}`);
      onward.write(`${lines.join("\r\n")}\r\n\r\n`);
      onward.write(head);
      onward.pipe(socket);
      socket.pipe(onward);
    });
    const destroy = () => {
      socket.destroy();
      onward.destroy();
    };
    for (const end of [socket, onward]) end.on("error", destroy);
  });
  // Those that became WebSockets are not the server's any more.
  const sockets = new Set();
  server.on("connection", (socket) => {
    sockets.add(socket);
    socket.once("close", () => sockets.delete(socket));
  });
  await new Promise((done) => server.listen(0, "127.0.0.1", done));
  return {
    url: `http://127.0.0.1:${server.address().port}${path}`,
    async stop() {
      for (const socket of sockets) socket.destroy();
      await new Promise((done) => server.close(done));
    },
  };
}
