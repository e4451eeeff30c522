/** Texts as the rows of one batch, whose moods can be changed while they are written. */

import { Gone, Refused } from "./server.js";

const ENDED = 404;
const SOON_MS = 1000; // after which the stream of a server that is gone has ended too

export function together(server, { context, feelings, sampling }, signal) {
  const mover = new Mover(server);
  return { events: events(server, mover, { ...context, ...sampling, emotions: feelings }, signal),
    change: (wanted, again) => mover.move(wanted, again) };
}

async function* events(server, mover, body, signal) {
  try {
    for await (const event of server.events("v1/emotions/compare", body, signal)) {
      if (event.type === "start") mover.begin(event.stream);
      if (event.type === "error") throw new Refused(event.message, 500);
      yield event;
    }
  } finally {
    mover.hasEnded = true;
  }
}

/** Sends changes one after the other: of those that come meanwhile only the last counts. */
class Mover {
  #server;
  #begun = null; // a promise of the stream's token
  #wanted = null; // the body of the next change
  #sending = null;
  begin; // call it with the token
  hasEnded = false; // the stream, which told of it itself

  constructor(server) {
    this.#server = server;
    this.#begun = new Promise((resolve) => { this.begin = resolve; });
  }

  /** Settled once nothing is left to send; Refused if the server will not. */
  move(emotions, again) {
    this.#wanted = { emotions, again: again || (this.#wanted?.again ?? false) };
    this.#sending ??= this.#send().finally(() => { this.#sending = null; });
    return this.#sending;
  }

  async #send() {
    const token = await this.#begun;
    while (this.#wanted) {
      const body = this.#wanted;
      this.#wanted = null;
      try {
        await this.#server.json(`v1/emotions/streams/${token}`, body);
      } catch (error) {
        if (error instanceof Gone) await new Promise((resolve) => setTimeout(resolve, SOON_MS));
        if (this.hasEnded || error.status === ENDED) return;
        if (!this.#wanted) throw error;
      }
    }
  }
}
