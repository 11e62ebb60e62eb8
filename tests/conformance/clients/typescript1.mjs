// Walks through a gateway with the 1.x line of the TypeScript SDK: node typescript1.mjs URL; prints one JSON object of facts.
import { Client } from "@modelcontextprotocol/sdk/client/index.js";
import { StreamableHTTPClientTransport } from "@modelcontextprotocol/sdk/client/streamableHttp.js";
import * as types from "@modelcontextprotocol/sdk/types.js";

const facts = { asked: [], logged: [], progress: [] };
const client = new Client(
  { name: "walk", version: "1" },
  { capabilities: { elicitation: {}, sampling: {}, roots: { listChanged: true } } },
);
client.setRequestHandler(types.ElicitRequestSchema, async (request) => {
  facts.asked.push(request.params.message);
  const names = Object.keys(request.params.requestedSchema.properties);
  return { action: "accept", content: Object.fromEntries(names.map((name) => [name, "mine"])) };
});
client.setRequestHandler(types.CreateMessageRequestSchema, async (request) => {
  facts.asked.push(request.params.messages[0].content.text);
  return { role: "assistant", content: { type: "text", text: "a sampled answer" }, model: "m", stopReason: "endTurn" };
});
client.setRequestHandler(types.ListRootsRequestSchema, async () => ({ roots: [{ uri: "file:///home", name: "home" }] }));
const next = (schema) => new Promise((resolve) => client.setNotificationHandler(schema, resolve));
client.setNotificationHandler(types.LoggingMessageNotificationSchema, (note) => facts.logged.push(note.params.level));

const call = async (name, args = {}, options = undefined) =>
  (await client.callTool({ name, arguments: args }, undefined, options)).content[0].text;

const transport = new StreamableHTTPClientTransport(new URL(process.argv[2]));
await client.connect(transport);
facts.version = transport.protocolVersion;
facts.server = client.getServerVersion().name;
facts.tools = (await client.listTools()).tools.length;
facts.echo = JSON.parse(await call("echo", { x: 1 }));
facts.read = (await client.readResource({ uri: "test://static-text" })).contents[0].text;
facts.prompt = (await client.getPrompt({ name: "test_simple_prompt" })).messages[0].content.text;
const ref = { type: "ref/prompt", name: "test_prompt_with_arguments" };
facts.complete = (await client.complete({ ref, argument: { name: "arg1", value: "par" } })).completion.values;
await call("test_tool_with_progress", {}, { onprogress: (p) => facts.progress.push(p.progress) });
await client.setLoggingLevel("warning");
await call("test_logging_tool");
facts.elicited = await call("test_elicitation", { message: "Who?" });
facts.sampled = await call("test_sampling", { prompt: "Say" });
facts.roots = await call("test_input_required_result_list_roots");
const changed = next(types.ToolListChangedNotificationSchema);
await call("test_trigger_tool_change");
await changed;
facts.tools_after_change = (await client.listTools()).tools.length;
await call("test_trigger_tool_change");
await client.subscribeResource({ uri: "test://watched-resource" });
const updated = next(types.ResourceUpdatedNotificationSchema);
await call("touch");
await updated;
const before = JSON.parse(await call("notes")).cancelled;
const controller = new AbortController();
await call("slow", { seconds: 60 }, { signal: controller.signal, onprogress: () => controller.abort("enough") }).catch(() => {});
while (JSON.parse(await call("notes")).cancelled === before);
facts.cancelled = true;
await transport.terminateSession();
await client.close();
console.log(JSON.stringify(facts));
