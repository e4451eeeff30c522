/** A talk that outlives its page: what the server sent is kept in the tab, and played once more. */

import { keep, kept } from "./kept.js";

const KEPT = "emokernel-talk-1"; // another number when turns have another form

/** `turns`: [{said, chosen, places, events, broken}], see `Exchange.record`. */
export function keepTurns(model, turns) {
  keep(KEPT, JSON.stringify([model, turns]));
}

/** The turns with this model; none if there are none. */
export function keptTurns(model) {
  try {
    const [of, turns] = JSON.parse(kept(KEPT));
    return of === model ? turns : [];
  } catch {
    return []; // nothing was kept, or nothing that can be read
  }
}

/** A writer, see writer.js, of what was sent before. */
export const replayed = ({ events, broken }) => ({ events: replay(events, broken), change: null });

async function* replay(events, broken) {
  yield* events;
  // What has no end by then was stopped.
  throw broken ? new Error(broken) : new DOMException("", "AbortError");
}
