// A Node.js server that speaks TLS itself, with HTTP/2 or HTTP/1.1 inside as the client wants: PORT, KEY and CERTIFICATE
// are the arguments, the last two as files. It answers which version was spoken and how much it was sent.
const { readFileSync } = require("node:fs");
const { createSecureServer } = require("node:http2");

const [port, key, cert] = process.argv.slice(2);
const options = { allowHTTP1: true, key: readFileSync(key), cert: readFileSync(cert) };
const server = createSecureServer(options, (request, response) => {
  let length = 0;
  request.on("data", (piece) => (length += piece.length));
  request.on("end", () => response.end(request.httpVersion + " " + length));
});
server.listen(Number(port), "127.0.0.1");
process.on("SIGTERM", () => process.exit());
