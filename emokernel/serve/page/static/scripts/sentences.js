/** Cuts a text that is being written into sentences, each with the mood that was asked for in it. */

import { mean } from "./affect.js";

const segmenter = new Intl.Segmenter(undefined, { granularity: "sentence" });
const hasLetter = /\p{L}/u;

export class Sentences {
  #pieces = []; // {text, step, place}, of what has not been given out

  /** The sentences that are known to be whole once this comes: {text, step, place}. */
  push(text, step, place) {
    this.#pieces.push({ text, step, place });
    const whole = [...segmenter.segment(this.#text())].slice(0, -1);
    return whole.map(({ segment }) => this.#take(segment.length)).filter(isText);
  }

  /** What is left, when nothing more comes. */
  end() {
    const left = this.#text();
    return [this.#take(left.length)].filter(isText);
  }

  #text() {
    return this.#pieces.map(({ text }) => text).join("");
  }

  #take(length) {
    const taken = [];
    let text = "";
    while (text.length < length) {
      const piece = this.#pieces.shift();
      const part = piece.text.slice(0, length - text.length);
      const rest = piece.text.slice(part.length);
      if (rest) this.#pieces.unshift({ ...piece, text: rest });
      text += part;
      taken.push(piece);
    }
    const places = taken.map(({ place }) => place).filter((place) => place && !place.isNowhere);
    return {
      text: text.trim(), step: taken.at(-1)?.step ?? 0,
      place: places.length ? mean(places) : null,
    };
  }
}

const isText = ({ text }) => hasLetter.test(text);
