// Read an output by @durable-streams/client as it is: node read_output.js URL COOKIE sse|long-poll FILE
import { writeFileSync } from "node:fs";
import { stream } from "@durable-streams/client";

const [url, cookie, live, file] = process.argv.slice(2);
let text = "";
let offset = "-1";
let isClosed = false;
while (!isClosed) {
  try {
    const response = await stream({ url, headers: { Cookie: cookie }, offset, live, warnOnHttp: false });
    response.subscribeText((chunk) => {
      text += chunk.text;
      offset = chunk.offset;
    });
    await response.closed;
    isClosed = response.streamClosed;
  } catch (error) {
    // It does not read on after a connection that was broken in the middle of a response.
    console.error(`${error}, again from ${offset}`);
  }
}
writeFileSync(file, text);
