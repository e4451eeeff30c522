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
import { Talk } from "./talk.js";
import { Twelve } from "./twelve.js";
import { inOneBatch } from "./writer.js";

const SUGGESTIONS = {
  chat: ["How was the party last night?", "Describe the sea on a windy morning.", "What do you think of Mondays?"],
  text: ["This morning I", "When the door opened,", "The letter said that"],
};
const AGAIN_S = 3; // after which a server that could not tell what it can is asked again
const NEAR = 120; // pixels from the end, within which the page follows a text

const settings = new Settings();
const server = new Server(askKey);
const line = new Line();
const disc = new Disc(byId("disc"));

/** What the views share. `known`: the answer of /v1/emotions. */
const page = {
  server, settings, line, known: null,
  place: () => settings.place(page.known),
  changed: show,
  showMarks: (view) => { if (view === shown()) disc.show(view.marks); },
  say: (text) => { byId("aloud").textContent = text; },
  list: (told, text) => {
    byId("readings").querySelector("ol").append(make("li", {}, make("b", {}, told), ` ${text}`));
    byId("readings").hidden = false;
  },
  unlist: () => byId("readings").querySelector("ol").replaceChildren(),
  follow: (element) => {
    const end = element.getBoundingClientRect().bottom - byId("composer").getBoundingClientRect().top;
    if (end > 0 && end < NEAR) scrollBy({ top: end });
  },
};
const views = { talk: new Talk(page), twelve: new Twelve(page), cost: new Cost(page) };
const composer = new Composer(settings);
const showTab = tabs(VIEWS, (view) => {
  settings.set({ view });
  show();
});
const panel = new Panel(settings, disc, (isSettled) => {
  tell(byId("mood-error"), null);
  for (const view of Object.values(views)) view.moved(isSettled);
  show();
});

function shown() {
  return views[settings.values.view];
}

function show() {
  const view = shown();
  showTab(settings.values.view);
  composer.show(view);
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
  const note = byId("judge");
  if (page.known.abilities.judge === null) note.textContent = "This server has no judge: nothing is read.";
  else if (error) {
    note.replaceChildren(`The judge could not read: ${error}. `,
      make("button", { type: "button", class: "plain", onclick: () => judge.again() }, "Ask it again"));
  } else if (reading) note.textContent = `The judge (${page.known.abilities.judge}) reads…`;
  else note.textContent = `Each whole sentence is read by ${page.known.abilities.judge}.`;
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
  const oneBatch = inOneBatch(known, 2);
  byId("lead").textContent = `The same model ${chat ? "answers" : "goes on with your text"} twice with the same random `
    + "numbers: once steered by the point, once plain. Whatever differs is the mood."
    + (oneBatch ? "" : " This server writes each text for itself, and a mood cannot be changed in mid-text.");
  byId("twelve-lead").textContent = inOneBatch(known, 12)
    ? "One batch whose rows differ by nothing but their place on the circle."
    : "Twelve requests that differ by nothing but their place on the circle; browsers send six at a time.";
}

function open(fragment) {
  const names = page.known.data.filter(({ steered }) => steered).map(({ id }) => id);
  const complaints = settings.fromFragment(fragment, names);
  tell(byId("send-error"), complaints.length ? `Of this link: ${complaints.join(" ")}` : null);
  history.replaceState(null, "", location.pathname + location.search);
}

byId("share").addEventListener("click", (event) =>
  copy(location.href.replace(/#.*/, "") + settings.toFragment(), event.target));
for (const { judge } of Object.values(views)) judge?.addEventListener("change", showJudge);
addEventListener("hashchange", () => {
  if (location.hash.length < 2) return;
  open(location.hash);
  show();
});

async function begin() {
  try {
    await meet();
  } catch (error) {
    const wait = error.status < 500 && !error.seconds ? null : (error.seconds ?? AGAIN_S);
    byId("starting").textContent = `This page cannot begin: ${error.message}.`
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
