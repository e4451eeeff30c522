/** Asks for the key of a server that needs one. */

import { byId, tell } from "./dom.js";

/** A promise of the key; `message`: why the last one was not it. */
export function askKey(message) {
  const [dialog, given] = [byId("key"), byId("key-given")];
  tell(byId("key-error"), message);
  given.value = "";
  document.body.dataset.asks = "key";
  dialog.showModal();
  return new Promise((resolve) => {
    dialog.addEventListener("close", () => {
      delete document.body.dataset.asks;
      resolve(given.value.trim());
    }, { once: true });
    // Without a key there is nothing that this page could do.
    dialog.oncancel = (event) => event.preventDefault();
  });
}
