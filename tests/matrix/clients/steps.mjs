// Does what the test asks for, line by line: `walk SECONDS`, `process` or `again` on stdin, one JSON object on stdout for each.
import { createInterface } from "node:readline";

const PATIENCE_MILLISECONDS = 20000;

async function within(work, milliseconds) {
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error("no answer")), milliseconds);
  });
  return Promise.race([work, late]).finally(() => clearTimeout(timer));
}

/** `open()` gives a session with `walk(seconds)`, `process()` and `close()`; `again` opens another one. */
export async function serve(open) {
  let session = null;
  for await (const line of createInterface({ input: process.stdin })) {
    const [name, seconds] = line.split(" ");
    let facts;
    try {
      if (name === "again") await within(session.close(), 2000).catch(() => {});
      if (!session || name === "again") session = await within(open(), PATIENCE_MILLISECONDS);
      const work = name === "walk" ? session.walk(Number(seconds)) : session.process();
      facts = await within(work, PATIENCE_MILLISECONDS + Number(seconds ?? 0) * 1000);
    } catch (error) {
      facts = { error: `${error.name}: ${error.message}`.slice(0, 300) };
    }
    console.log(JSON.stringify(facts));
  }
  process.exit(0);
}
