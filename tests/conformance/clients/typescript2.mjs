// Walks through a gateway with the 2.x line of the TypeScript SDK in the modern era: node typescript2.mjs URL; prints facts.
import { Client, StreamableHTTPClientTransport } from "@modelcontextprotocol/client";

const facts = { asked: [], progress: [] };
const client = new Client(
  { name: "walk", version: "1" },
  { capabilities: { elicitation: {}, sampling: {}, roots: {} }, versionNegotiation: { mode: "auto" } },
);
client.setRequestHandler("elicitation/create", async (request) => {
  facts.asked.push(request.params.message);
  const names = Object.keys(request.params.requestedSchema.properties);
  return { action: "accept", content: Object.fromEntries(names.map((name) => [name, "mine"])) };
});
client.setRequestHandler("sampling/createMessage", async (request) => {
  facts.asked.push(request.params.messages[0].content.text);
  return { role: "assistant", content: { type: "text", text: "a sampled answer" }, model: "m", stopReason: "endTurn" };
});
client.setRequestHandler("roots/list", async () => ({ roots: [{ uri: "file:///home", name: "home" }] }));
const next = (method) => new Promise((resolve) => client.setNotificationHandler(method, resolve));
const call = async (name, args = {}, options = undefined) =>
  (await client.callTool({ name, arguments: args }, options)).content[0].text;

await client.connect(new StreamableHTTPClientTransport(new URL(process.argv[2])));
facts.version = client.getNegotiatedProtocolVersion();
facts.server = client.getServerVersion().name;
facts.tools = (await client.listTools()).tools.length;
facts.echo = JSON.parse(await call("echo", { x: 1 }));
facts.read = (await client.readResource({ uri: "test://static-text" })).contents[0].text;
facts.prompt = (await client.getPrompt({ name: "test_simple_prompt" })).messages[0].content.text;
const ref = { type: "ref/prompt", name: "test_prompt_with_arguments" };
facts.complete = (await client.complete({ ref, argument: { name: "arg1", value: "par" } })).completion.values;
await call("test_tool_with_progress", {}, { onprogress: (p) => facts.progress.push(p.progress) });
facts.elicited = await call("test_elicitation", { message: "Who?" });
facts.sampled = await call("test_sampling", { prompt: "Say" });
facts.roots = await call("test_input_required_result_list_roots");
const uri = "test://watched-resource";
const subscription = await client.listen({ toolsListChanged: true, resourceSubscriptions: [uri] });
const changed = next("notifications/tools/list_changed");
await call("test_trigger_tool_change");
await changed;
facts.tools_after_change = (await client.listTools({}, { cacheMode: "refresh" })).tools.length;
await call("test_trigger_tool_change");
const updated = next("notifications/resources/updated");
await call("touch");
await updated;
await subscription.close();
const before = JSON.parse(await call("notes")).cancelled;
const controller = new AbortController();
await call("slow", { seconds: 60 }, { signal: controller.signal, onprogress: () => controller.abort("enough") }).catch(() => {});
while (JSON.parse(await call("notes")).cancelled === before);
facts.cancelled = true;
await client.close();
console.log(JSON.stringify(facts));
