// A Node.js server that says what it was sent: each answer has a hash of all header fields, and ends the same way.
const { createServer } = require("node:http");
const { createHash } = require("node:crypto");

const server = createServer((request, response) => {
  const hash = createHash("sha256").update(request.rawHeaders.join("\n")).digest("hex");
  response.sendDate = false;
  response.end(`${request.rawHeaders.length} ${hash}`);
});
server.keepAliveTimeout = 0;
server.listen(Number(process.argv[2]), "127.0.0.1");
