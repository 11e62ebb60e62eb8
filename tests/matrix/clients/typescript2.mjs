// The 2.x line of the TypeScript SDK as a client, in the era that it negotiates: node typescript2.mjs URL PACKAGE, then the commands of `steps`.
import { serve } from "./steps.mjs";

const [url, sdk] = process.argv.slice(2);
const { Client, StreamableHTTPClientTransport } = await import(sdk);

async function open() {
  const options = { capabilities: { elicitation: {} }, versionNegotiation: { mode: "auto" } };
  const client = new Client({ name: "walk", version: "1" }, options);
  client.setRequestHandler("elicitation/create", async () => ({ action: "accept", content: { sure: true } }));
  await client.connect(new StreamableHTTPClientTransport(new URL(url)));
  const call = async (name, args, callOptions) => {
    const result = await client.callTool({ name, arguments: args }, callOptions);
    if (result.isError) throw new Error(result.content[0].text);
    return result.content[0].text;
  };
  return {
    async walk(seconds) {
      const progress = [];
      const facts = { version: client.getNegotiatedProtocolVersion(), progress };
      facts.tools = (await client.listTools()).tools.map((tool) => tool.name).sort();
      facts.sum = await call("add", { a: 2, b: 3 });
      facts.read = (await client.readResource({ uri: "note://greeting" })).contents[0].text;
      facts.prompt = (await client.getPrompt({ name: "review", arguments: { code: "x" } })).messages[0].content.text;
      facts.long = await call("work", { seconds }, { onprogress: (note) => progress.push(note.progress) });
      facts.asked = facts.tools.includes("remove") ? await call("remove", { name: "file" }).catch((error) => error.message) : null;
      return facts;
    },
    process: async () => ({ process: await call("process", {}) }),
    close: () => client.close(),
  };
}

await serve(open);
