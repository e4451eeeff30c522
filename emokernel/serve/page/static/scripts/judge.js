/** Asks the server's judge to read sentences; those that come while it reads go together next. */

const MOST = 64; // texts of a request
const LONGEST = 20000; // characters of a text
const SOON_MS = 1200; // after which a person is told that it is still reading

export class Judge extends EventTarget {
  #server;
  #waiting = []; // {text, done}
  #reading = false;

  /** `state`: {reading, error}; "change" is dispatched when it does. */
  state = { reading: false, error: null };

  constructor(server) {
    super();
    this.#server = server;
  }

  get isReading() {
    return this.#reading;
  }

  /** `done({label, place})` is called once the sentence has been read. */
  read(text, done) {
    this.#waiting.push({ text: text.slice(0, LONGEST), done });
    this.#next();
  }

  /** Once more, after an error. */
  again() {
    this.#say({ error: null });
    this.#next();
  }

  /** Nothing that waits is wanted any more. */
  forget() {
    this.#waiting = [];
    this.#say({ error: null });
  }

  async #next() {
    if (this.#reading || this.state.error || !this.#waiting.length) return;
    this.#reading = true;
    const slow = setTimeout(() => this.#say({ reading: true }), SOON_MS);
    const asked = this.#waiting.splice(0, MOST);
    try {
      const texts = asked.map(({ text }) => text);
      const answer = await this.#server.json("v1/emotions/read", { texts });
      for (const { index, label, place } of answer.data) asked[index].done({ label, place });
    } catch (error) {
      this.#waiting.unshift(...asked);
      this.#say({ error: error.message });
    }
    clearTimeout(slow);
    this.#reading = false;
    this.#say({ reading: false });
    this.#next();
  }

  #say(changes) {
    this.state = { ...this.state, ...changes };
    this.dispatchEvent(new Event("change"));
  }
}
