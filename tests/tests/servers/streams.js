// A Node.js server for what HTTP/1 can do besides a request and its answer: PORT is the first argument.
//
//     GET /events      server-sent events: one at once, one more after each POST /more, an end after POST /end
//     POST /echo       the body comes back piece by piece, and its trailers after it
//     GET /hints       103, then the answer
//     PUT /checked     100 if "x-wanted: yes" was sent with "expect: 100-continue", else 417
//     anything else    method, target and HTTP version, as they arrived
const { createServer } = require("node:http");

let events;

function answer(request, response) {
  switch (`${request.method} ${request.url}`) {
    case "GET /events":
      events = response;
      response.writeHead(200, { "content-type": "text/event-stream" });
      response.write("data: 1\n\n");
      break;
    case "POST /more":
      events.write("data: more\n\n");
      response.end();
      break;
    case "POST /end":
      events.end();
      response.end();
      break;
    case "POST /echo":
      response.writeHead(200, { trailer: "x-echoed" });
      request.on("data", (piece) => response.write(piece));
      request.on("end", () => {
        response.addTrailers({ "x-echoed": request.trailers["x-sent"] ?? "none" });
        response.end();
      });
      break;
    case "GET /hints":
      response.writeEarlyHints({ link: "</style.css>; rel=preload" }, () => response.end("hinted"));
      break;
    case "PUT /checked":
      request.pipe(response);
      break;
    default:
      response.end(`${request.method} ${request.url} ${request.httpVersion}`);
  }
}

const server = createServer(answer);
server.on("checkContinue", (request, response) => {
  if (request.headers["x-wanted"] === "yes") {
    response.writeContinue();
    answer(request, response);
  } else {
    response.writeHead(417, { connection: "close" });
    response.end();
  }
});
server.listen(Number(process.argv[2]), "127.0.0.1");
process.on("SIGTERM", () => server.close());
