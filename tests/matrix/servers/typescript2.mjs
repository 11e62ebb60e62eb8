// A small server for both eras, as the 2.x line of the TypeScript SDK is used with Hono's server: node typescript2.mjs PORT PACKAGE
import { serve } from "@hono/node-server";
import { z } from "zod4";

const [port, sdk] = process.argv.slice(2);
const { McpServer, acceptedContent, createMcpHandler, inputRequired } = await import(sdk);

const text = (value) => ({ content: [{ type: "text", text: String(value) }] });
const pause = (milliseconds) => new Promise((resolve) => setTimeout(resolve, milliseconds));
const consent = z.object({ sure: z.boolean() });

const handler = createMcpHandler(() => {
  const server = new McpServer({ name: "everyday", version: "1.0.0" });
  const numbers = z.object({ a: z.number(), b: z.number() });
  server.registerTool("add", { description: "Add two numbers.", inputSchema: numbers }, async ({ a, b }) => text(a + b));
  server.registerTool("process", { description: "Tell which process answers." }, async () => text(process.pid));
  server.registerTool(
    "work",
    { description: "Work for a while and tell how far it is.", inputSchema: z.object({ seconds: z.number() }) },
    async ({ seconds }, ctx) => {
      for (let step = 1; step <= 5; step += 1) {
        await pause(seconds * 200);
        const progressToken = ctx.mcpReq._meta?.progressToken;
        if (progressToken !== undefined) {
          await ctx.mcpReq.notify({ method: "notifications/progress", params: { progressToken, progress: step, total: 5 } });
        }
      }
      return text("done");
    },
  );
  server.registerTool(
    "remove",
    { description: "Remove something, if the person agrees.", inputSchema: z.object({ name: z.string() }) },
    async ({ name }, ctx) => {
      const answer = acceptedContent(ctx.mcpReq.inputResponses, "sure", consent);
      if (answer === undefined) {
        const question = inputRequired.elicit({ message: `Remove ${name}?`, requestedSchema: consent });
        return inputRequired({ inputRequests: { sure: question } });
      }
      return text(answer.sure ? `removed ${name}` : "kept");
    },
  );
  server.registerResource("greeting", "note://greeting", {}, async (uri) => ({ contents: [{ uri: uri.href, text: "Hello!" }] }));
  server.registerPrompt("review", { description: "Ask for a review.", argsSchema: z.object({ code: z.string() }) }, ({ code }) => ({
    messages: [{ role: "user", content: { type: "text", text: `Please review: ${code}` } }],
  }));
  return server;
});

serve({ fetch: (request) => handler.fetch(request), hostname: "127.0.0.1", port: Number(port) });
