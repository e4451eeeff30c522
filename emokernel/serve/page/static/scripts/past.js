/** A talk that outlives its page: what the server sent is kept in the tab, and played once more. */

import { keep, kept } from "./kept.js";

const KEPT = "emokernel-talk-1"; // another number when turns have another form

/** `turns`: [{said, model, chosen, places, events, broken}], see `Exchange.record`. */
export function keepTurns(turns) {
  let some = turns.map((turn) => ({ ...turn, events: turn.events.map(small) }));
  // Where there is no room for all, the later ones.
  while (!keep(KEPT, JSON.stringify(some)) && some.length) some = some.slice(Math.ceil(some.length / 2));
}

/** The turns of a talk whose last one was with this model; none if there is none. */
export function keptTurns(model) {
  try {
    const turns = JSON.parse(kept(KEPT));
    return turns.at(-1).model === model ? turns : [];
  } catch {
    return []; // nothing was kept, or nothing that can be read
  }
}

/** A writer, see writer.js, of what was sent before. */
export const replayed = ({ events, broken }) => ({ events: replay(events, broken), change: null });

async function* replay(events, broken) {
  for (const event of events) yield whole(event);
  // What has no end by then was stopped.
  throw broken ? new Error(broken) : new DOMException("", "AbortError");
}

/** Most events are texts of a word, for which their names would be most of the room. */
const small = (event) => (event.type === "text" ? [event.side, event.step, event.text] : event);

function whole(event) {
  if (!Array.isArray(event)) return event;
  const [side, step, text] = event;
  return { type: "text", side, step, text };
}
