/**
 * How texts are written side by side: in one batch where the server compares, else by a request each.
 *
 * A writer has `events`, an async iterator of what /v1/emotions/compare sends, and `change(feelings,
 * again)`, null where moods cannot be changed any more.
 */

import { apart } from "./apart.js";
import { together } from "./together.js";

/** `job`: {context, feelings, sampling}; `context`: {messages} or {prompt}, perhaps a system. */
export const write = (server, known, job, signal) =>
  inOneBatch(known, job.feelings.length)
    ? together(server, job, signal)
    : apart(server, known, job, signal);

export const inOneBatch = ({ abilities }, sides) => (abilities.sides ?? 0) >= sides;

/** The messages of a chat, or the text to go on with for a model that only continues. */
export function contextOf(known, system, turns, said) {
  if (!known.abilities.chat) return { prompt: said };
  const messages = turns.flatMap((turn) => [
    { role: "user", content: turn.said },
    { role: "assistant", content: turn.answer },
  ]);
  messages.push({ role: "user", content: said });
  return { messages, ...(system.trim() && { system }) };
}
