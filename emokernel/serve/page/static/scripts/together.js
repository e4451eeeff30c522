/** Texts as the rows of one batch, whose moods can be changed while they are written. */

import { Gone, Refused } from "./server.js";

const ENDED = 404;

export function together(server, { context, feelings, sampling }, signal) {
  const mover = new Mover(server);
  return { events: events(server, mover, { ...context, ...sampling, emotions: feelings }, signal),
    change: (wanted) => mover.move(wanted) };
}

async function* events(server, mover, body, signal) {
  for await (const event of server.events("v1/emotions/compare", body, signal)) {
    if (event.type === "start") mover.begin(event.stream);
    if (event.type === "error") throw new Refused(event.message, 500);
    yield event;
  }
}

/** Sends changes one after the other: of those that come meanwhile only the last counts. */
class Mover {
  #server;
  #token = null;
  #wanted = null;
  #sending = null;

  constructor(server) {
    this.#server = server;
  }

  begin(token) {
    this.#token = token;
    if (this.#wanted) this.move(this.#wanted).catch(() => {});
  }

  /** Settled once nothing is left to send; Refused if the server will not. */
  move(feelings) {
    this.#wanted = feelings;
    if (!this.#token) return Promise.resolve();
    this.#sending ??= this.#send().finally(() => { this.#sending = null; });
    return this.#sending;
  }

  async #send() {
    while (this.#wanted) {
      const emotions = this.#wanted;
      this.#wanted = null;
      try {
        await this.#server.json(`v1/emotions/streams/${this.#token}`, { emotions });
      } catch (error) {
        // The text has ended, or its own stream tells that the server is gone.
        if (error instanceof Gone || error.status === ENDED) return;
        throw error;
      }
    }
  }
}
