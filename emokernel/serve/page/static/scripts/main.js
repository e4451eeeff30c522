/** The page: its parts, and what they tell each other. */

import { Composer } from "./composer.js";
import { watch } from "./connection.js";
import { copy } from "./copy.js";
import { Cost } from "./cost.js";
import { Disc } from "./disc.js";
import { byId, make, tell } from "./dom.js";
import { askKey } from "./key.js";
import { Line } from "./line.js";
import { Panel } from "./panel.js";
import { Server } from "./server.js";
import { Settings, VIEWS } from "./settings.js";
import { tabs } from "./tabs.js";
import { sentence } from "./words.js";
import { Talk } from "./talk.js";
import { Twelve } from "./twelve.js";
import { inOneBatch } from "./writer.js";

const SUGGESTIONS = {
  chat: ["How was the party last night?", "Describe the sea on a windy morning.", "What do you think of Mondays?"],
  text: ["This morning I", "When the door opened,", "The letter said that"],
};
const SAID = 8; // sentences that are said aloud, at most, before they go
const AGAIN_S = 3; // after which a server that could not tell what it can is asked again

const settings = new Settings();
const server = new Server(askKey);
const line = new Line();
let looksBack = false; // a person has scrolled up
let followed = null; // the text with which the page goes on in the next frame
const disc = new Disc(byId("disc"));

/** What the views share. `known`: the answer of /v1/emotions. `mayWrite()` throws while no text may be begun. */
const page = {
  server, settings, line, known: null,
  isWriting: () => [views.talk, views.twelve].some((view) => view.isBusy || view.judge.isReading),
  mayWrite: () => {
    if (views.cost.isBusy) throw new Error("The cost is being measured, and this would be too: stop that, or wait for its end.");
  },
  changed: show,
  showMarks: (view) => { if (view === shown()) disc.show(view.marks); },
  say: (text) => {
    byId("aloud").append(make("p", {}, text)); // beside what may not have been said yet
    while (byId("aloud").children.length > SAID) byId("aloud").firstElementChild.remove();
  },
  list: (told, text) => {
    byId("readings").querySelector("ol").append(make("li", {}, make("b", {}, told), ` ${text}`));
    show();
  },
  unlist: () => byId("readings").querySelector("ol").replaceChildren(),
  follow: (element) => {
    if (!followed) requestAnimationFrame(follow);
    followed = element;
  },
};
const views = { talk: new Talk(page), twelve: new Twelve(page), cost: new Cost(page) };
const composer = new Composer(settings);
const showTab = tabs(VIEWS, (view) => {
  // The other views ask what the talk asked, unless something else is being written.
  const message = settings.values.message || (view === "talk" ? "" : views.talk.lastSaid);
  settings.set({ view, message });
  show();
});
const panel = new Panel(settings, disc, (isSettled) => {
  tell(byId("mood-error"), null);
  for (const view of Object.values(views)) view.moved(isSettled);
  show();
});

/** Goes on with a text that has come to the end of what is seen, unless a person looks further up. */
function follow() {
  const end = followed.getBoundingClientRect().bottom - byId("composer").getBoundingClientRect().top;
  followed = null;
  if (end <= 0) looksBack = false;
  else if (!looksBack) scrollBy({ top: end, behavior: "instant" });
}

function shown() {
  return views[settings.values.view];
}

function show() {
  const view = shown();
  showTab(settings.values.view);
  composer.show(view);
  view.show?.();
  disc.hold(view === views.twelve);
  disc.show(view.marks);
  byId("line").hidden = settings.values.view !== "talk" || !view.hasText;
  byId("reading").hidden = !view.hasText;
  byId("readings").hidden = byId("line").hidden || !byId("readings").querySelector("li");
  document.body.dataset.view = settings.values.view;
  document.body.dataset.busy = String(view.isBusy);
  byId("hint").textContent = hint(view);
  line.show();
  showJudge();
}

function hint(view) {
  if (view.isFixed) return "This server cannot change a mood in mid-text: the point counts from the next message on.";
  if (view.isSteered) return "Move the point: the next word follows it. Escape stops.";
  if (settings.values.view === "twelve") return "The same message to all twelve; strength and settings are those of the panel.";
  if (settings.values.view === "cost") return "Measured with this message and the mood of the panel.";
  return "Enter sends, Shift and Enter begin a new line.";
}

function showJudge() {
  const { judge } = shown();
  if (!judge) return;
  const { reading, error } = judge.state;
  const { judge: name } = page.known.abilities;
  const told = name === null ? "This server has no judge: nothing is read."
    : error ? `The judge could not read: ${sentence(error)}`
      : reading ? `The judge (${name}) reads…` : `${name} reads each whole ${shown() === views.talk ? "sentence" : "answer"}.`;
  const note = byId("judge");
  if (note.dataset.told === told) return; // or a screen reader would say it again
  note.dataset.told = told;
  note.replaceChildren(told, ...(error ? [" ", make("button",
    { type: "button", class: "plain", onclick: () => shown().judge.again() }, "Ask it again")] : []));
}

/** Asks what the server can, and shows it. */
async function meet() {
  const known = await server.json("v1/emotions");
  page.known = known;
  const name = /^([/\\]|[A-Za-z]:)/.test(known.model) ? known.model.split(/[/\\]/).at(-1) : known.model;
  byId("model").textContent = name; // of a folder the last part
  byId("model").title = known.model;
  document.title = `${name} · emokernel`;
  panel.know(known);
  const { chat } = known.abilities;
  byId("suggestions").replaceChildren(...SUGGESTIONS[chat ? "chat" : "text"].map((text) =>
    make("button", { type: "button", onclick: () => { settings.set({ message: text }); composer.send(); } }, text)));
  byId("message").placeholder = chat ? "Ask or tell it something" : "Begin a text";
  byId("title").textContent = chat ? "Move the point. Ask something. Move it again while it speaks."
    : "Move the point. Begin a text. Move it again while it goes on.";
  const oneBatch = inOneBatch(known, 2);
  byId("lead").textContent = `The same model ${chat ? "answers" : "goes on with your text"} twice with the same random `
    + "numbers: once steered by the point, once plain. Whatever differs is the mood."
    + (oneBatch ? "" : " This server writes each text for itself, and a mood cannot be changed in mid-text.");
  byId("twelve-lead").textContent = inOneBatch(known, 12)
    ? "One batch whose rows differ by nothing but their place on the circle."
    : "Twelve requests that differ by nothing but their place on the circle; browsers send six at a time.";
}

function open(fragment) {
  const complaints = settings.fromFragment(fragment);
  composer.complain(complaints.length ? `Of this link: ${complaints.join(" ")}` : null, shown());
  history.replaceState(null, "", location.pathname + location.search);
}

byId("share").addEventListener("click", (event) =>
  copy(location.href.replace(/#.*/, "")
    + settings.toFragment(settings.values.message || views.talk.lastSaid), event.target));
for (const { judge } of Object.values(views)) judge?.addEventListener("change", showJudge);
let height = scrollY;
addEventListener("scroll", () => {
  looksBack ||= scrollY < height;
  height = scrollY;
}, { passive: true });
// On narrow screens what is chosen less often comes behind the texts, for the Tab key too.
const narrow = matchMedia("(max-width: 760px)");
const putRest = () => (narrow.matches ? byId("page") : byId("panel")).append(byId("rest"));
narrow.addEventListener("change", putRest);
putRest();
addEventListener("hashchange", () => {
  if (location.hash.length < 2 || !page.known) return;
  open(location.hash);
  for (const view of Object.values(views)) view.moved(true);
  show();
});

async function begin() {
  try {
    await meet();
    await views.talk.restore();
  } catch (error) {
    const wait = error.status < 500 && !error.seconds ? null : (error.seconds ?? AGAIN_S);
    byId("starting").textContent = sentence(`This page cannot begin: ${error.message}`)
      + (wait ? ` It asks again in ${wait} s.` : "");
    if (wait) setTimeout(begin, 1000 * wait);
    return;
  }
  if (location.hash.length > 1) open(location.hash);
  show();
  byId("starting").hidden = true;
  document.body.dataset.ready = "";
}

// What is known stays where it cannot be asked for again.
watch(server, () => { if (page.known) meet().then(show, () => {}); });
await begin();
