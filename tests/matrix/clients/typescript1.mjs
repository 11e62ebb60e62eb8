// The 1.x line of the TypeScript SDK as a client: node typescript1.mjs URL PACKAGE, then the commands of `steps`.
import { serve } from "./steps.mjs";

const [url, sdk] = process.argv.slice(2);
const { Client } = await import(`${sdk}/client/index.js`);
const { StreamableHTTPClientTransport } = await import(`${sdk}/client/streamableHttp.js`);
const types = await import(`${sdk}/types.js`);
const asks = "ElicitRequestSchema" in types; // since 1.13

async function open() {
  const client = new Client({ name: "walk", version: "1" }, { capabilities: asks ? { elicitation: {} } : {} });
  if (asks) client.setRequestHandler(types.ElicitRequestSchema, async () => ({ action: "accept", content: { sure: true } }));
  const transport = new StreamableHTTPClientTransport(new URL(url));
  await client.connect(transport);
  const call = async (name, args, options) => {
    const result = await client.callTool({ name, arguments: args }, undefined, options);
    if (result.isError) throw new Error(result.content[0].text);
    return result.content[0].text;
  };
  return {
    async walk(seconds) {
      const progress = [];
      // Since 1.11.
      const facts = { version: transport.protocolVersion ?? "unknown", progress };
      facts.tools = (await client.listTools()).tools.map((tool) => tool.name).sort();
      facts.sum = await call("add", { a: 2, b: 3 });
      facts.read = (await client.readResource({ uri: "note://greeting" })).contents[0].text;
      facts.prompt = (await client.getPrompt({ name: "review", arguments: { code: "x" } })).messages[0].content.text;
      facts.long = await call("work", { seconds }, { onprogress: (note) => progress.push(note.progress) });
      facts.asked = asks && facts.tools.includes("remove") ? await call("remove", { name: "file" }).catch((error) => error.message) : null;
      return facts;
    },
    process: async () => ({ process: await call("process", {}) }),
    close: () => client.close(),
  };
}

await serve(open);
