/** The message, and the buttons that send it, stop, and ask again. */

import { byId, tell } from "./dom.js";
import { sentence } from "./words.js";

const COMPOSING = 229; // the key of an input method, as Safari says it

export class Composer {
  #settings;
  #view; // the one that is shown
  #errors = new Map(); // of each view

  constructor(settings) {
    this.#settings = settings;
    const message = byId("message");
    message.addEventListener("input", () => settings.set({ message: message.value }));
    message.addEventListener("keydown", (event) => {
      if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
      if (event.keyCode === COMPOSING) return;
      event.preventDefault();
      byId("composer").requestSubmit();
    });
    byId("composer").addEventListener("submit", (event) => {
      event.preventDefault();
      this.send();
    });
    byId("stop").addEventListener("click", () => this.#view.stop());
    byId("again").addEventListener("click", () => this.#try(() => this.#view.repeat()));
    byId("anew").addEventListener("click", () => this.#view.anew());
    document.addEventListener("keydown", (event) => {
      if (event.key !== "Escape" || event.isComposing || event.defaultPrevented) return;
      if (event.target.matches("select, dialog *") || !this.#view?.isBusy) return;
      this.#view.stop();
    });
    settings.addEventListener("change", () => this.#write());
    this.#write();
  }

  show(view) {
    this.#view = view;
    const { isBusy, canRepeat, label } = view;
    byId("send").textContent = label;
    // A button that is hidden would take the focus with it.
    const held = document.activeElement;
    byId("send").hidden = isBusy;
    byId("stop").hidden = !isBusy;
    byId("again").hidden = isBusy || !canRepeat;
    byId("anew").hidden = !canRepeat;
    tell(byId("send-error"), this.#errors.get(view));
    if (held?.hidden) (isBusy ? byId("stop") : byId("message")).focus();
  }

  async send() {
    const said = this.#settings.values.message;
    if (this.#view.isBusy) return;
    if (!said.trim()) {
      byId("message").focus();
      return;
    }
    const isTalk = Boolean(this.#view.repeat);
    if (isTalk) this.#settings.set({ message: "" });
    await this.#try(() => this.#view.run(said), () => {
      // What was refused is not lost, unless something else has been written meanwhile.
      if (isTalk && !this.#settings.values.message) this.#settings.set({ message: said });
    });
  }

  /** Says what could not be, in the view that it is about. */
  complain(message, view = this.#view) {
    this.#errors.set(view, message);
    if (this.#view) this.show(this.#view);
  }

  async #try(work, failed = () => {}) {
    const view = this.#view;
    this.complain(null);
    try {
      await work();
    } catch (error) {
      failed();
      const later = error.seconds ? ` Try again in ${error.seconds} s.` : "";
      this.complain(sentence(error.message) + later, view);
    }
  }

  #write() {
    const { message } = this.#settings.values;
    const field = byId("message");
    if (field.value !== message) field.value = message;
    if (CSS.supports("field-sizing", "content")) return;
    field.style.height = "auto";
    field.style.height = `${field.scrollHeight}px`;
  }
}
