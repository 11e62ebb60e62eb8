// A small server with sessions, as the 1.x line of the TypeScript SDK is used with Express: node typescript1.mjs PORT PACKAGE
import { randomUUID } from "node:crypto";
import express from "express";
import { z } from "zod";

const [port, sdk] = process.argv.slice(2);
const { McpServer } = await import(`${sdk}/server/mcp.js`);
const { StreamableHTTPServerTransport } = await import(`${sdk}/server/streamableHttp.js`);
const { isInitializeRequest } = await import(`${sdk}/types.js`);

const text = (value) => ({ content: [{ type: "text", text: String(value) }] });
const pause = (milliseconds) => new Promise((resolve) => setTimeout(resolve, milliseconds));

function makeServer() {
  const server = new McpServer({ name: "everyday", version: "1.0.0" });
  server.tool("add", "Add two numbers.", { a: z.number(), b: z.number() }, async ({ a, b }) => text(a + b));
  server.tool("process", "Tell which process answers.", async () => text(process.pid));
  server.tool("work", "Work for a while and tell how far it is.", { seconds: z.number() }, async ({ seconds }, extra) => {
    for (let step = 1; step <= 5; step += 1) {
      await pause(seconds * 200);
      const progressToken = extra._meta?.progressToken;
      if (progressToken !== undefined) {
        const params = { progressToken, progress: step, total: 5 };
        await extra.sendNotification({ method: "notifications/progress", params });
      }
    }
    return text("done");
  });
  // Since 1.13.
  if (server.server.elicitInput) {
    server.tool("remove", "Remove something, if the person agrees.", { name: z.string() }, async ({ name }) => {
      const requestedSchema = { type: "object", properties: { sure: { type: "boolean" } }, required: ["sure"] };
      const answer = await server.server.elicitInput({ message: `Remove ${name}?`, requestedSchema });
      return text(answer.action === "accept" && answer.content.sure ? `removed ${name}` : "kept");
    });
  }
  server.resource("greeting", "note://greeting", async (uri) => ({ contents: [{ uri: uri.href, text: "Hello!" }] }));
  server.prompt("review", "Ask for a review.", { code: z.string() }, ({ code }) => ({
    messages: [{ role: "user", content: { type: "text", text: `Please review: ${code}` } }],
  }));
  return server;
}

const app = express();
app.use(express.json());
const transports = {};

app.post("/mcp", async (request, response) => {
  let transport = transports[request.headers["mcp-session-id"]];
  if (!transport && isInitializeRequest(request.body)) {
    transport = new StreamableHTTPServerTransport({
      sessionIdGenerator: () => randomUUID(),
      onsessioninitialized: (id) => { transports[id] = transport; },
    });
    transport.onclose = () => { delete transports[transport.sessionId]; };
    await makeServer().connect(transport);
  }
  if (!transport) {
    const error = { code: -32000, message: "Bad Request: No valid session ID provided" };
    response.status(400).json({ jsonrpc: "2.0", error, id: null });
    return;
  }
  await transport.handleRequest(request, response, request.body);
});

const forSession = async (request, response) => {
  const transport = transports[request.headers["mcp-session-id"]];
  if (transport) await transport.handleRequest(request, response);
  else response.status(400).send("Invalid or missing session ID");
};
app.get("/mcp", forSession);
app.delete("/mcp", forSession);
app.listen(Number(port), "127.0.0.1");
