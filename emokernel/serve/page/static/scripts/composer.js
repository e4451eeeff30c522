/** The message, and the buttons that send it, stop, and ask again. */

import { byId, tell } from "./dom.js";

export class Composer {
  #settings;
  #view; // the one that is shown

  constructor(settings) {
    this.#settings = settings;
    const message = byId("message");
    message.addEventListener("input", () => settings.set({ message: message.value }));
    message.addEventListener("keydown", (event) => {
      if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
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
      if (event.key === "Escape" && this.#view.isBusy && !byId("key").open) this.#view.stop();
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

  async #try(work, failed = () => {}) {
    tell(byId("send-error"), null);
    try {
      await work();
    } catch (error) {
      failed();
      const later = error.seconds ? ` Try again in ${error.seconds} s.` : "";
      tell(byId("send-error"), sentence(error.message) + later);
    }
  }

  #write() {
    const { message } = this.#settings.values;
    if (byId("message").value !== message) byId("message").value = message;
  }
}

const sentence = (text) => `${text.charAt(0).toUpperCase()}${text.slice(1)}`.replace(/([^.!?])$/, "$1.");
