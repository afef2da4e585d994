// A Node.js server that reads PORT as most do, takes a while for each answer, and stops on SIGTERM as it should.
const { createServer } = require("node:http");
const { readFileSync } = require("node:fs");

const page = readFileSync(process.argv[2]);
const server = createServer((request, response) => {
  setTimeout(() => response.end(page), 100);
});
server.listen(Number(process.env.PORT), "127.0.0.1");
process.on("SIGTERM", () => server.close());
