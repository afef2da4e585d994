// The package ws as one of the peers of local_websocket:
//
//     peer.js server PORT
//     peer.js client URL        how each case ended, as one JSON object
//
// What a server has to do, and what the cases are, is the same in peer.js, peer.py and go/main.go: it echoes, except for
// text that begins with "pieces " (echoed in fragments), "close CODE REASON", "ping" (answered with "ponged" once its
// own ping was answered) and "abort" (the connection ends without a close frame).
const WebSocket = require("ws");

const LARGE = 16 << 20;
const compressed = { perMessageDeflate: { threshold: 0 } };
const unlimited = { maxPayload: 0 };

function serve(port) {
  const server = new WebSocket.Server({ port, host: "127.0.0.1", ...compressed, ...unlimited });
  server.on("connection", (socket) => {
    socket.on("error", () => {});
    socket.on("message", (data, isBinary) => {
      const text = isBinary ? "" : data.toString();
      const [command, ...words] = text.split(" ");
      if (command === "pieces") {
        sendPieces(socket, text);
      } else if (command === "close") {
        socket.close(Number(words[0]), words.slice(1).join(" "));
      } else if (command === "ping") {
        socket.once("pong", () => socket.send("ponged"));
        socket.ping();
      } else if (command === "abort") {
        socket.terminate();
      } else {
        socket.send(data, { binary: isBinary });
      }
    });
  });
}

function sendPieces(socket, text) {
  const half = text.length >> 1;
  socket.send(text.slice(0, half), { fin: false });
  socket.send(text.slice(half), { fin: true });
}

const pattern = (length) => Buffer.alloc(length, Buffer.from([...Array(251).keys()]));
const once = (socket, event) => new Promise((resolve) => socket.once(event, (...values) => resolve(values)));

async function open(url, options) {
  const socket = new WebSocket(url, { perMessageDeflate: false, ...unlimited, ...options });
  // Said by "close" as well.
  socket.on("error", () => {});
  const closed = once(socket, "close").then(([code, reason]) => {
    throw new Error(`closed with ${code} ${reason}`);
  });
  closed.catch(() => {});
  await Promise.race([once(socket, "open"), closed]);
  return { socket, closed };
}

async function echo({ socket, closed }, sent, send = () => socket.send(sent)) {
  const answer = once(socket, "message");
  send();
  const [data, isBinary] = await Promise.race([answer, closed]);
  const same = isBinary === Buffer.isBuffer(sent) && Buffer.compare(data, Buffer.from(sent)) === 0;
  return same ? "the same" : `${data.length} other bytes`;
}

async function end({ socket }) {
  const closed = once(socket, "close");
  socket.close(1000);
  const [code] = await closed;
  return code;
}

async function echoed(url, sent, send, options) {
  const connection = await open(url, options);
  const outcome = await echo(connection, sent, send && (() => send(connection.socket)));
  return `${outcome}, ${await end(connection)}`;
}

const cases = {
  text: (url) => echoed(url, "grüße, 世界 🌍"),
  binary: (url) => echoed(url, pattern(100_000)),
  empty: (url) => echoed(url, ""),
  fragments: (url) => echoed(url, "two frames", (socket) => sendPieces(socket, "two frames")),
  fragments_back: (url) => echoed(url, "pieces of an answer"),
  large: (url) => echoed(url, pattern(LARGE)),
  ping: async (url) => {
    const connection = await open(url);
    connection.socket.ping("data");
    const [data] = await Promise.race([once(connection.socket, "pong"), connection.closed]);
    return `${data}, ${await end(connection)}`;
  },
  pinged: async (url) => {
    const connection = await open(url);
    const answer = once(connection.socket, "message");
    connection.socket.send("ping");
    const [data] = await Promise.race([answer, connection.closed]);
    return `${data}, ${await end(connection)}`;
  },
  server_closes: async (url) => {
    const connection = await open(url);
    connection.socket.send("close 4001 good bye");
    return connection.closed;
  },
  client_closes: async (url) => {
    const { socket } = await open(url);
    const closed = once(socket, "close");
    socket.close(4002, "done");
    const [code, reason] = await closed;
    return `${code} ${reason}`;
  },
  server_aborts: async (url) => {
    const connection = await open(url);
    connection.socket.send("abort");
    return connection.closed;
  },
  client_aborts: async (url) => {
    const { socket } = await open(url);
    socket.terminate();
    const [code] = await once(socket, "close");
    return `${code}`;
  },
  deflate: async (url) => {
    const connection = await open(url, compressed);
    const outcomes = [connection.socket.extensions];
    for (const text of ["again and again ".repeat(10_000), "again and again", "and again"]) {
      outcomes.push(await echo(connection, text));
    }
    return `${outcomes.join(", ")}, ${await end(connection)}`;
  },
};

async function ask(url) {
  const outcomes = {};
  for (const [name, attempt] of Object.entries(cases)) {
    outcomes[name] = await attempt(url).catch((error) => error.message);
  }
  console.log(JSON.stringify(outcomes));
}

const [mode, where] = process.argv.slice(2);
if (mode === "server") serve(Number(where));
else if (mode === "client") ask(where);
else throw new Error(`unknown mode ${mode}; it is server or client`);
