/** The server that this page came from: questions, streams, and how it fails. */

import { keep, kept } from "./kept.js";

/** It answered that it will not; `seconds`: when to ask again, if it said. */
export class Refused extends Error {
  constructor(message, status, seconds = null) {
    super(message);
    Object.assign(this, { status, seconds });
  }
}

/** It did not answer, or not to the end. */
export class Gone extends Error {}

export const isAbort = (error) => error?.name === "AbortError";

const KEY = "emokernel-key";

export class Server extends EventTarget {
  #askKey;
  #asked = null; // the promise of a key, which all that were refused wait for

  /** `askKey(message)`: a promise of the key that a person gives. */
  constructor(askKey) {
    super();
    this.#askKey = askKey;
  }

  /** The JSON of an answer; Refused, Gone. With a body it is a POST. */
  async json(path, body, signal) {
    const response = await this.#fetch(path, body, signal);
    return this.#whole(() => response.json(), signal);
  }

  /** The data of server-sent events, parsed, up to [DONE]; Gone if the stream ends before that. */
  async *events(path, body, signal) {
    const response = await this.#fetch(path, body, signal);
    const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
    let rest = "";
    try {
      for (;;) {
        const { done, value } = await this.#whole(() => reader.read(), signal);
        if (done) break;
        const lines = (rest + value).split(/\r?\n/);
        rest = lines.pop();
        for (const line of lines) {
          if (!line.startsWith("data:")) continue;
          const data = line.slice(5).trim();
          if (data === "[DONE]") return;
          yield JSON.parse(data);
        }
      }
    } finally {
      reader.cancel().catch(() => {});
    }
    throw this.#gone("the server ended the text before its end");
  }

  async #fetch(path, body, signal, saidKey = false) {
    const key = kept(KEY);
    const headers = key ? { Authorization: `Bearer ${key}` } : {};
    if (body) headers["Content-Type"] = "application/json";
    const response = await this.#whole(
      () => fetch(path, {
        method: body ? "POST" : "GET", headers, signal, body: body && JSON.stringify(body),
      }),
      signal,
    );
    if (response.ok) return response;
    const told = await refusalOf(response);
    if (response.status !== 401) throw told;
    if (key === kept(KEY)) await this.#newKey(saidKey);
    signal?.throwIfAborted();
    return this.#fetch(path, body, signal, true);
  }

  async #newKey(wasRefused) {
    const why = wasRefused ? "The server does not take this key." : null;
    this.#asked ??= this.#askKey(why).finally(() => { this.#asked = null; });
    keep(KEY, await this.#asked);
  }

  async #whole(work, signal) {
    try {
      return await work();
    } catch (error) {
      if (isAbort(error) || signal?.aborted) throw error;
      throw this.#gone("the server does not answer");
    }
  }

  #gone(message) {
    this.dispatchEvent(new Event("gone"));
    return new Gone(message);
  }
}

async function refusalOf(response) {
  let message = null;
  try {
    const told = await response.json();
    message = told.error?.message ?? (typeof told.detail === "string" ? told.detail : told.error);
  } catch { /* whatever stands in front of the server answers in words of its own */ }
  const seconds = Number(response.headers.get("retry-after")) || null;
  const said = typeof message === "string" ? message : `the server answered ${response.status}`;
  return new Refused(said, response.status, seconds);
}
