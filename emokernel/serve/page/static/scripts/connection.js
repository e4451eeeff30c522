/** Says that the server is gone, asks until it is back, and says that too. */

import { byId, tell } from "./dom.js";

const FIRST_MS = 1000;
const LAST_MS = 8000;
const SAID_MS = 4000;
const PATIENCE_MS = 5000; // for an answer
const LATER_MS = 3000; // a server that is being stopped answers until it is

/** `back()` is called when it answers again. */
export function watch(server, back) {
  const banner = byId("banner");
  let asking = false;

  async function ask(isFirst = true) {
    if (asking) return;
    asking = true;
    for (let wait = FIRST_MS; !(await answers()); wait = Math.min(2 * wait, LAST_MS)) {
      banner.className = "gone";
      tell(banner, "The server does not answer. What stands here stays, and this page asks it again by itself.");
      await new Promise((resolve) => setTimeout(resolve, wait));
    }
    asking = false;
    if (banner.hidden) { // it was only that one answer
      if (isFirst) setTimeout(() => ask(false), LATER_MS);
      return;
    }
    banner.className = "back";
    tell(banner, "The server is back.");
    setTimeout(() => { if (!asking) tell(banner, null); }, SAID_MS);
    back();
  }

  server.addEventListener("gone", () => ask());
  addEventListener("online", () => ask());
  document.addEventListener("visibilitychange", () => { if (!document.hidden) ask(); });
}

async function answers() {
  try {
    const signal = AbortSignal.timeout(PATIENCE_MS);
    return (await fetch("health", { cache: "no-store", signal })).ok;
  } catch {
    return false;
  }
}
