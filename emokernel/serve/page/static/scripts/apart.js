/** Texts by a request each, with one seed: for servers that have no compare. Moods stay as they are. */

import { Refused } from "./server.js";

const NOTHING = { emotion: null };

export const apart = (server, known, job, signal) =>
  ({ events: events(server, known, job, signal), change: null });

async function* events(server, known, { context, feelings, sampling }, signal) {
  const stop = new AbortController();
  signal.addEventListener("abort", () => stop.abort(), { once: true });
  const begun = performance.now();
  const at = () => (performance.now() - begun) / 1000;
  yield { type: "start", seed: sampling.seed, emotions: feelings };
  const texts = feelings.map((feeling, side) =>
    one(server, known, { ...context, ...sampling, ...(feeling ?? NOTHING) }, side, at, stop.signal));
  try {
    yield* merged(texts);
  } finally {
    stop.abort();
  }
  yield { type: "done", at: at() };
}

async function* one(server, known, { system, ...asked }, side, at, signal) {
  const body = { ...asked, model: known.model, stream: true, stream_options: { include_usage: true } };
  if (system) body.messages = [{ role: "system", content: system }, ...body.messages];
  const path = body.messages ? "v1/chat/completions" : "v1/completions";
  let [step, reason, usage] = [0, "stop", null];
  for await (const chunk of server.events(path, body, signal)) {
    if (chunk.error) throw new Refused(chunk.error.message ?? "the server failed", 500);
    usage = chunk.usage ?? usage;
    const choice = chunk.choices?.[0];
    if (!choice) continue;
    reason = choice.finish_reason ?? reason;
    const text = choice.delta?.content ?? choice.text;
    if (text) yield { type: "text", side, step: step++, at: at(), text };
  }
  yield { type: "end", side, step, at: at(), reason, tokens: usage?.completion_tokens ?? step };
}

/** What several async iterators give, in the order in which it comes. */
async function* merged(iterators) {
  const coming = new Map();
  const ask = (iterator) =>
    coming.set(iterator, iterator.next().then((result) => ({ iterator, result })));
  iterators.forEach(ask);
  while (coming.size) {
    const { iterator, result } = await Promise.race(coming.values());
    if (result.done) coming.delete(iterator);
    else {
      ask(iterator);
      yield result.value;
    }
  }
}
